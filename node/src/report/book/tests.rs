#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;

use ferrolb_api::view::{
    Endpoint, EndpointPort, EndpointSlice, IngressAddress, Protocol, ServicePort, ServiceType,
    TargetPort,
};
use ferrolb_speaker::snapshot::Conflict;
use proptest::prelude::*;

use super::*;

/// The state of the world that the book describes.
#[derive(Debug, Clone, Default)]
struct World {
    services: BTreeMap<ObjectKey, Standing>,
    slices: BTreeMap<ObjectKey, Arc<EndpointSlice>>,
    addresses: BTreeMap<IpAddr, Arc<Address>>,
    programmed: BTreeSet<ObjectKey>,
}

/// One change of the world.
#[derive(Debug, Clone)]
enum Step {
    Service(u8, Option<(Vec<u8>, u8, bool)>),
    Slice(u8, Option<(u8, u8)>),
    Address(u8, Option<(u8, bool)>),
    Programmed(u8, Option<bool>),
    Look,
}

fn key(n: u8) -> ObjectKey {
    ObjectKey::new("default", format!("web-{n}"))
}

fn vip(n: u8) -> IpAddr {
    [172, 17, 255, n].into()
}

fn standing(n: u8, vips: &[u8], ports: u8, refused: bool) -> Standing {
    let port = |port: u8| ServicePort {
        name: format!("p{port}"),
        protocol: Protocol::Tcp,
        port: 80 + u16::from(port),
        target_port: TargetPort::Number(8000),
        node_port: None,
    };
    let service = Service {
        key: key(n),
        service_type: ServiceType::LoadBalancer,
        cluster_ips: vec![[10, 96, 0, n].into()],
        ingress: vips
            .iter()
            .map(|n| IngressAddress {
                ip: vip(*n),
                vip: true,
            })
            .collect(),
        ports: (0..ports).map(port).collect(),
        ..Service::default()
    };
    Standing {
        service: Arc::new(service),
        pool: None,
        reason: match refused {
            true => Reason::PoolExhausted,
            false => Reason::Allocated,
        },
        message: String::new(),
    }
}

fn slice(n: u8, service: u8, endpoints: u8) -> EndpointSlice {
    let endpoint = |e: u8| Endpoint {
        address: [10, 244, n, e].into(),
        node: Some("a".into()),
        ready: e.is_multiple_of(2),
        serving: true,
        terminating: false,
        hint_nodes: vec![],
        hint_zones: vec![],
        weight: None,
    };
    let port = |name: &str| EndpointPort {
        name: name.into(),
        protocol: Protocol::Tcp,
        port: 8000,
    };
    EndpointSlice {
        key: ObjectKey::new("default", format!("slice-{n}")),
        service: key(service).name.clone(),
        ports: vec![port("p0"), port("p1")],
        endpoints: (0..endpoints).map(endpoint).collect(),
        triggered: None,
    }
}

impl World {
    /// Makes a change, and reports it to the book as a node would.
    fn step(&mut self, step: Step, book: &mut Book) {
        match step {
            Step::Service(n, new) => {
                match new {
                    Some((vips, ports, refused)) => self
                        .services
                        .insert(key(n), standing(n, &vips, ports, refused)),
                    None => self.services.remove(&key(n)),
                };
                book.touch([key(n)].into());
            }
            Step::Slice(n, new) => {
                let name = slice(n, 0, 0).key;
                let change = match new {
                    Some((service, endpoints)) => {
                        let slice = Arc::new(slice(n, service, endpoints));
                        self.slices.insert(name, Arc::clone(&slice));
                        Change::Upsert(Object::EndpointSlice(slice))
                    }
                    None => {
                        self.slices.remove(&name);
                        Change::Remove(Kind::EndpointSlice, name)
                    }
                };
                book.source(&[change]);
            }
            Step::Address(n, new) => {
                let address = new.map(|(owner, conflict)| {
                    Arc::new(Address {
                        address: vip(n),
                        owner: ["a", "b"].get(usize::from(owner)).map(|o| (*o).to_owned()),
                        interfaces: vec!["eth0".into()],
                        reason: Reason::NoOwner,
                        advertised: Default::default(),
                        owned: None,
                        conflict: conflict.then(|| Conflict {
                            mac: "02:00:00:00:00:01".into(),
                            member: None,
                            port: 7947,
                        }),
                    })
                });
                match address.clone() {
                    Some(address) => self.addresses.insert(vip(n), address),
                    None => self.addresses.remove(&vip(n)),
                };
                book.addresses([(vip(n), address)].into());
            }
            Step::Programmed(n, new) => {
                if new == Some(true) {
                    self.programmed.insert(key(n));
                } else {
                    self.programmed.remove(&key(n));
                }
                let status = new.map(|programmed| {
                    Arc::new(Proxied {
                        programmed,
                        ..Proxied::default()
                    })
                });
                book.proxied([(key(n), status)].into());
            }
            Step::Look => {}
        }
    }

    /// A new book of the current world.
    fn book(&self) -> Book {
        let mut book = Book::new("a", true);
        let slices = self.slices.values().cloned();
        let changes: Vec<Change> = slices
            .map(|slice| Change::Upsert(Object::EndpointSlice(slice)))
            .collect();
        book.source(&changes);
        let addresses = self.addresses.iter();
        book.addresses(
            addresses
                .map(|(ip, a)| (*ip, Some(Arc::clone(a))))
                .collect(),
        );
        let programmed = Proxied {
            programmed: true,
            ..Proxied::default()
        };
        let programmed = Arc::new(programmed);
        let services = self.programmed.iter();
        book.proxied(
            services
                .map(|key| (key.clone(), Some(Arc::clone(&programmed))))
                .collect(),
        );
        book.touch(self.services.keys().cloned().collect());
        book.renew(|key| self.services.get(key).cloned());
        book
    }
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..4_u8;
    let vips = proptest::collection::vec(0..3_u8, 0..2);
    let service = proptest::option::of((vips, 0..3_u8, any::<bool>()));
    prop_oneof![
        (n.clone(), service).prop_map(|(n, s)| Step::Service(n, s)),
        (n.clone(), proptest::option::of((0..4_u8, 0..4_u8))).prop_map(|(n, s)| Step::Slice(n, s)),
        (0..3_u8, proptest::option::of((0..3_u8, any::<bool>())))
            .prop_map(|(n, a)| Step::Address(n, a)),
        (n, proptest::option::of(any::<bool>())).prop_map(|(n, p)| Step::Programmed(n, p)),
        Just(Step::Look),
    ]
}

proptest! {
    #[test]
    fn a_book_kept_from_change_to_change_is_the_one_made_from_nothing(
        steps in proptest::collection::vec(step(), 1..40)
    ) {
        let (mut world, mut book) = (World::default(), Book::new("a", true));
        let mut shown: BTreeMap<ObjectKey, Arc<ServiceStatus>> = BTreeMap::new();
        for step in steps.into_iter().chain([Step::Look]) {
            let look = matches!(step, Step::Look);
            world.step(step, &mut book);
            if !look {
                continue;
            }
            for (key, status) in book.renew(|key| world.services.get(key).cloned()) {
                match status {
                    Some(status) => shown.insert(key, status),
                    None => shown.remove(&key),
                };
            }
            let expected = world.book();
            prop_assert_eq!(book.entries(), expected.entries());
            let statuses = expected.entries().iter();
            let statuses: BTreeMap<_, _> =
                statuses.map(|(key, e)| (key.clone(), Arc::clone(&e.status))).collect();
            prop_assert_eq!(&shown, &statuses, "what was reported adds up to what there is");
            for member in ["a", "b"] {
                prop_assert_eq!(book.announced(member), expected.announced(member));
            }
            let conflicts: Vec<&Address> = book.conflicts().collect();
            prop_assert_eq!(conflicts, expected.conflicts().collect::<Vec<_>>());
            prop_assert_eq!(&book.by_address, &expected.by_address);
        }
    }
}

/// The Services that the book asked about.
fn asked(book: &mut Book, world: &World) -> Vec<ObjectKey> {
    let asked = RefCell::new(Vec::new());
    book.renew(|key| {
        asked.borrow_mut().push(key.clone());
        world.services.get(key).cloned()
    });
    asked.into_inner()
}

#[test]
fn a_change_looks_at_the_services_that_it_concerns_however_many_there_are() {
    let mut world = World::default();
    for n in 0..200 {
        world.services.insert(key(n), standing(n, &[n], 1, false));
    }
    let mut book = world.book();
    assert!(asked(&mut book, &world).is_empty());
    let concerned = [
        (Step::Slice(1, Some((7, 2))), vec![key(7)]),
        // If a slice moves to another Service, the one that loses it changes too.
        (Step::Slice(1, Some((9, 2))), vec![key(7), key(9)]),
        (Step::Address(5, Some((0, false))), vec![key(5)]),
        (Step::Programmed(3, Some(true)), vec![key(3)]),
        (Step::Programmed(3, Some(true)), vec![]),
    ];
    for (step, expected) in concerned {
        world.step(step.clone(), &mut book);
        assert_eq!(asked(&mut book, &world), expected, "{step:?}");
    }
}

#[test]
fn endpoints_are_counted_again_only_where_they_or_the_service_changed() {
    let mut world = World::default();
    world.services.insert(key(1), standing(1, &[1], 1, false));
    let mut book = world.book();
    world.step(Step::Slice(1, Some((1, 3))), &mut book);
    book.renew(|key| world.services.get(key).cloned());
    assert_eq!(book.entries()[&key(1)].status.endpoints.total, 3);
    // If endpoints were counted again for the next change, none would be found.
    book.slices = EndpointIndex::default();
    world.step(Step::Address(1, Some((0, false))), &mut book);
    book.renew(|key| world.services.get(key).cloned());
    assert_eq!(book.entries()[&key(1)].status.endpoints.total, 3);
    world.step(Step::Service(1, Some((vec![1], 2, false))), &mut book);
    book.renew(|key| world.services.get(key).cloned());
    assert_eq!(book.entries()[&key(1)].status.endpoints.total, 0);
}
