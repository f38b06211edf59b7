//! Derives EndpointSlices from Pods, like the endpointslice controller of a cluster (reconciler.go, utils.go): for each Service
//! that selects pods and has no slice of its own, one slice per family and set of port numbers.
//!
//! A pod is an endpoint if it has an address and is not finished. The endpoint is ready if the pod is ready and not terminating
//! (or the Service publishes unready addresses). It is serving while the pod itself is ready. Pods and endpoints are ordered by
//! name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrolb_api::change::{Batch, Change};
use ferrolb_api::object::{Kind, Object};
use ferrolb_api::view::{
    Endpoint, EndpointPort, EndpointSlice, Pod, Service, ServicePort, ServiceType, TargetPort,
};
use ferrolb_api::{Family, ObjectKey};

#[cfg(test)]
mod tests;

/// The Services, Pods and slices seen, and the slices derived from them.
#[derive(Debug, Default)]
pub struct Synth {
    services: BTreeMap<ObjectKey, Arc<Service>>,
    pods: BTreeMap<ObjectKey, Arc<Pod>>,
    /// Slices that exist as objects, and the Service of each.
    own: BTreeMap<ObjectKey, ObjectKey>,
    made: BTreeMap<ObjectKey, Vec<Arc<EndpointSlice>>>,
}

impl Synth {
    /// Adds the resulting changes of slices to a batch. New and changed slices go before everything else, so that no Service is
    /// seen without its endpoints.
    pub fn apply(&mut self, mut batch: Batch) -> Batch {
        let mut dirty = BTreeSet::new();
        for change in &batch.changes {
            self.take(change, &mut dirty);
        }
        let mut upserts = Vec::new();
        for service in dirty {
            let made = self
                .services
                .get(&service)
                .filter(|_| !self.own.values().any(|owner| *owner == service))
                .map(|s| slices(s, pods_of(&self.pods, s)))
                .unwrap_or_default();
            let made: Vec<_> = made.into_iter().map(Arc::new).collect();
            let before = self.made.remove(&service).unwrap_or_default();
            for slice in &made {
                if !before.contains(slice) {
                    upserts.push(Change::Upsert(Object::EndpointSlice(Arc::clone(slice))));
                }
            }
            for slice in before {
                if !made.iter().any(|m| m.key == slice.key) && !self.own.contains_key(&slice.key) {
                    batch
                        .changes
                        .push(Change::Remove(Kind::EndpointSlice, slice.key.clone()));
                }
            }
            if !made.is_empty() {
                self.made.insert(service, made);
            }
        }
        if !upserts.is_empty() {
            upserts.append(&mut batch.changes);
            batch.changes = upserts;
        }
        batch
    }

    fn take(&mut self, change: &Change, dirty: &mut BTreeSet<ObjectKey>) {
        match change {
            Change::Upsert(Object::Service(service)) => {
                dirty.insert(service.key.clone());
                self.services
                    .insert(service.key.clone(), Arc::clone(service));
            }
            Change::Remove(Kind::Service, key) => {
                dirty.insert(key.clone());
                self.services.remove(key);
            }
            Change::Upsert(Object::Pod(pod)) => {
                if let Some(old) = self.pods.insert(pod.key.clone(), Arc::clone(pod)) {
                    self.selecting(&old, dirty);
                }
                self.selecting(pod, dirty);
            }
            Change::Remove(Kind::Pod, key) => {
                if let Some(old) = self.pods.remove(key) {
                    self.selecting(&old, dirty);
                }
            }
            Change::Upsert(Object::EndpointSlice(slice)) => {
                let owner = slice.service_key();
                if let Some(old) = self.own.insert(slice.key.clone(), owner.clone()) {
                    dirty.insert(old);
                }
                dirty.insert(owner);
            }
            Change::Remove(Kind::EndpointSlice, key) => {
                if let Some(owner) = self.own.remove(key) {
                    dirty.insert(owner);
                }
            }
            _ => {}
        }
    }

    fn selecting(&self, pod: &Pod, dirty: &mut BTreeSet<ObjectKey>) {
        let selecting =
            in_namespace(&self.services, &pod.key.namespace).filter(|s| selects(s, pod));
        dirty.extend(selecting.map(|s| s.key.clone()));
    }
}

fn in_namespace<'m, T>(
    map: &'m BTreeMap<ObjectKey, Arc<T>>,
    namespace: &str,
) -> impl Iterator<Item = &'m T> {
    let namespace = namespace.to_owned();
    map.range(ObjectKey::new(namespace.clone(), "")..)
        .take_while(move |(key, _)| key.namespace == namespace)
        .map(|(_, value)| value.as_ref())
}

fn selects(service: &Service, pod: &Pod) -> bool {
    !service.selector.is_empty()
        && service.service_type != ServiceType::ExternalName
        && service
            .selector
            .iter()
            .all(|(label, value)| pod.labels.get(label) == Some(value))
}

fn pods_of<'m>(
    pods: &'m BTreeMap<ObjectKey, Arc<Pod>>,
    service: &'m Service,
) -> impl Iterator<Item = &'m Pod> {
    in_namespace(pods, &service.key.namespace).filter(|pod| selects(service, pod) && !pod.finished)
}

/// The slices of a Service from its pods, which are ordered by name.
pub fn slices<'p>(service: &Service, pods: impl Iterator<Item = &'p Pod>) -> Vec<EndpointSlice> {
    let pods: Vec<&Pod> = pods.collect();
    let mut slices = Vec::new();
    for family in Family::ALL {
        // Groups in the order of their first pod, which also determines their number.
        let mut groups: Vec<(Vec<EndpointPort>, Vec<Endpoint>)> = Vec::new();
        for pod in &pods {
            let Some(address) = pod.ips.iter().find(|ip| Family::of(**ip) == family) else {
                continue;
            };
            let endpoint = Endpoint {
                address: *address,
                node: pod.node.clone(),
                ready: service.publish_not_ready || (pod.ready && !pod.terminating),
                serving: pod.ready,
                terminating: pod.terminating,
                hint_nodes: Vec::new(),
                hint_zones: Vec::new(),
                weight: pod.weight,
            };
            let ports = ports(service, pod);
            match groups.iter_mut().find(|(known, _)| *known == ports) {
                Some((_, endpoints)) => endpoints.push(endpoint),
                None => groups.push((ports, vec![endpoint])),
            }
        }
        for (n, (ports, endpoints)) in groups.into_iter().enumerate() {
            let family = family.to_string().to_lowercase();
            slices.push(EndpointSlice {
                key: ObjectKey::new(
                    service.key.namespace.clone(),
                    format!("{}-ferrolb-{family}-{n}", service.key.name),
                ),
                service: service.key.name.clone(),
                ports,
                endpoints,
                triggered: None,
            });
        }
    }
    slices
}

/// The ports of a Service on one pod; ports that the pod does not have are left out.
fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let resolve = |port: &ServicePort| match &port.target_port {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => pod
            .ports
            .iter()
            .find(|p| p.name == *name && p.protocol == port.protocol)
            .map(|p| p.port),
    };
    service
        .ports
        .iter()
        .filter_map(|port| {
            Some(EndpointPort {
                name: port.name.clone(),
                protocol: port.protocol,
                port: resolve(port)?,
            })
        })
        .collect()
}
