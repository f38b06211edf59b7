//! An index of every Service's endpoints, built from EndpointSlices. It reports which Services a change affects.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ObjectKey;
use crate::view::EndpointSlice;

/// EndpointSlices by Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointIndex {
    services: BTreeMap<ObjectKey, BTreeMap<ObjectKey, Arc<EndpointSlice>>>,
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
        self.services
            .entry(service)
            .or_default()
            .insert(slice.key.clone(), slice);
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
        slices.get(slice).map(AsRef::as_ref)
    }

    /// The slices of a Service, by name.
    pub fn of(&self, service: &ObjectKey) -> impl Iterator<Item = &EndpointSlice> + Clone {
        self.services
            .get(service)
            .into_iter()
            .flat_map(BTreeMap::values)
            .map(AsRef::as_ref)
    }

    fn forget(&mut self, service: &ObjectKey, slice: &ObjectKey) {
        if let Some(slices) = self.services.get_mut(service) {
            slices.remove(slice);
            if slices.is_empty() {
                self.services.remove(service);
            }
        }
    }
}
