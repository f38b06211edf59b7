//! The key that the nodes share: a Secret that the controller creates if it does not exist, as MetalLB does with its
//! `memberlist`.
//!
//! An existing Secret is never read or changed. So the permission to create one is enough, and a key that the users made
//! themselves stays in place.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use ferrolb_api::Backoff;
use ferrolb_api::refusal::Refusal;
use ferrolb_source::cluster::access::refusal;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use tracing::{info, warn};

use super::chance;

/// The key's field in the Secret, and so its file name when mounted.
pub const FIELD: &str = "key";
/// 256 bits.
const LENGTH: usize = 32;
/// The pauses between two attempts.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Creates the Secret if it does not exist, however long that takes.
pub async fn ensure(client: &Client, namespace: &str, name: &str) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let right = format!("create secrets in namespace {namespace}");
    let mut last: Option<Failure> = None;
    let mut backoff = PAUSES;
    loop {
        let failure = match secret(namespace, name) {
            Ok(secret) => match secrets.create(&PostParams::default(), &secret).await {
                Ok(_) => {
                    info!("Secret {namespace}/{name} created: the key that the nodes share");
                    return;
                }
                Err(error) => match refusal(&error, &right) {
                    Refusal::AlreadyExists => return,
                    refusal => Failure::Refused(refusal),
                },
            },
            Err(error) => Failure::NoRandomness(error.to_string()),
        };
        if !last.as_ref().is_some_and(|last| last.is_like(&failure)) {
            warn!(
                "Secret {namespace}/{name} not created: {failure}; it is tried again, and the nodes wait for it"
            );
        }
        last = Some(failure);
        tokio::time::sleep(backoff.next(chance())).await;
    }
}

/// Why the Secret does not exist yet.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Refused(Refusal),
    #[error("/dev/urandom: {0}")]
    NoRandomness(String),
}

impl Failure {
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Refused(a), Self::Refused(b)) => a.is_like(b),
            (Self::NoRandomness(_), Self::NoRandomness(_)) => true,
            _ => false,
        }
    }
}

fn secret(namespace: &str, name: &str) -> io::Result<Secret> {
    let mut key = vec![0; LENGTH];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(Secret {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some([(FIELD.to_owned(), ByteString(key))].into()),
        ..Secret::default()
    })
}
