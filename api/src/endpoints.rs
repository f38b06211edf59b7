//! An index of every Service's endpoints, built from EndpointSlices. It reports which Services a change affects.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ObjectKey;
use crate::view::EndpointSlice;

/// EndpointSlices by Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointIndex {
    /// By name. A list and not a map, because almost every Service has one slice, and a map of one takes ten times the memory.
    services: BTreeMap<ObjectKey, Vec<Arc<EndpointSlice>>>,
    owners: BTreeMap<ObjectKey, ObjectKey>,
}

impl EndpointIndex {
    /// Adds or replaces a slice. Returns the affected Services (two if the slice moved to another Service).
    pub fn upsert(&mut self, slice: Arc<EndpointSlice>) -> Vec<ObjectKey> {
        let service = slice.service_key();
        let mut dirty = vec![service.clone()];
        if let Some(old) = self.owners.insert(slice.key.clone(), service.clone())
            && old != service
        {
            self.forget(&old, &slice.key);
            dirty.push(old);
        }
        let slices = self.services.entry(service).or_default();
        match find(slices, &slice.key) {
            Ok(at) => slices[at] = slice,
            Err(at) => {
                slices.reserve_exact(usize::from(slices.is_empty()));
                slices.insert(at, slice);
            }
        }
        dirty
    }

    /// Removes a slice. Returns the Service that it belonged to.
    pub fn remove(&mut self, slice: &ObjectKey) -> Option<ObjectKey> {
        let service = self.owners.remove(slice)?;
        self.forget(&service, slice);
        Some(service)
    }

    /// A slice by its own name.
    pub fn get(&self, slice: &ObjectKey) -> Option<&EndpointSlice> {
        let slices = self.services.get(self.owners.get(slice)?)?;
        let at = find(slices, slice).ok()?;
        slices.get(at).map(AsRef::as_ref)
    }

    /// The slices of a Service, by name.
    pub fn of(&self, service: &ObjectKey) -> impl Iterator<Item = &EndpointSlice> + Clone {
        self.services
            .get(service)
            .into_iter()
            .flatten()
            .map(AsRef::as_ref)
    }

    /// All slices.
    pub fn all(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.services.values().flatten().map(AsRef::as_ref)
    }

    fn forget(&mut self, service: &ObjectKey, slice: &ObjectKey) {
        if let Some(slices) = self.services.get_mut(service) {
            slices.retain(|one| one.key != *slice);
            if slices.is_empty() {
                self.services.remove(service);
            }
        }
    }
}

/// Where the slice is, or would be.
fn find(slices: &[Arc<EndpointSlice>], key: &ObjectKey) -> Result<usize, usize> {
    slices.binary_search_by(|one| one.key.cmp(key))
}
