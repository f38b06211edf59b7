//! The key that the nodes share: a Secret that the controller creates if it does not exist, as MetalLB does with its
//! `memberlist`.
//!
//! An existing Secret is never changed, so a key that the users made themselves stays in place. While the controller runs, it
//! knows the key. A Secret that is deleted is made again with it, because a new key would split the nodes that run from those that
//! start later. For the same reason another key in the Secret is reported.

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
/// How often the Secret is looked at.
const EVERY: Duration = Duration::from_secs(10);

/// Keeps the Secret in existence. It never returns.
pub async fn keep(client: &Client, namespace: &str, name: &str) {
    let mut keeper = Keeper {
        secrets: Api::namespaced(client.clone(), namespace),
        namespace,
        name,
        key: None,
    };
    let mut last: Option<Failure> = None;
    let mut backoff = PAUSES;
    loop {
        let pause = match keeper.look().await {
            Ok(()) => {
                last = None;
                backoff.reset();
                EVERY
            }
            Err(failure) => {
                if !last.as_ref().is_some_and(|last| last.is_like(&failure)) {
                    let follows = match &keeper.key {
                        None => "it is tried again, and nodes without the Secret wait for it",
                        Some(_) => "it is tried again; nodes that run have the key already",
                    };
                    warn!("Secret {namespace}/{name}: {failure}; {follows}");
                }
                last = Some(failure);
                backoff.next(chance())
            }
        };
        tokio::time::sleep(pause).await;
    }
}

struct Keeper<'a> {
    secrets: Api<Secret>,
    namespace: &'a str,
    name: &'a str,
    /// The key, once it is known.
    key: Option<Vec<u8>>,
}

impl Keeper<'_> {
    /// Creates the Secret if it does not exist, and compares its key with the known one.
    async fn look(&mut self) -> Result<(), Failure> {
        let (namespace, name) = (self.namespace, self.name);
        let may = |verb: &str| format!("{verb} secrets in namespace {namespace}");
        match self.secrets.get(name).await {
            Ok(secret) => {
                let now = secret.data.and_then(|mut data| data.remove(FIELD));
                let now = now.map(|bytes| bytes.0).unwrap_or_default();
                if self.key.as_ref().is_some_and(|known| *known != now) {
                    warn!(
                        "Secret {namespace}/{name} holds another key now: nodes that start from now on do not hear those that run, and may \
                         announce the same addresses. Restart all nodes (kubectl -n {namespace} rollout restart daemonset), or put the old \
                         key back"
                    );
                }
                self.key = Some(now);
                return Ok(());
            }
            Err(error) => match refusal(&error, &may("get")) {
                Refusal::NotFound { .. } => {}
                refusal => return Err(Failure::Refused(refusal)),
            },
        }
        let key = match &self.key {
            Some(key) => key.clone(),
            None => random().map_err(|e| Failure::NoRandomness(e.to_string()))?,
        };
        let secret = secret(namespace, name, key.clone());
        match self.secrets.create(&PostParams::default(), &secret).await {
            Ok(_) if self.key.is_some() => {
                warn!("Secret {namespace}/{name} was deleted; creating it again with the same key");
            }
            Ok(_) => info!("Secret {namespace}/{name} created: the key that the nodes share"),
            Err(error) => match refusal(&error, &may("create")) {
                // Somebody was faster. The next look reads it.
                Refusal::AlreadyExists => return Ok(()),
                refusal => return Err(Failure::Refused(refusal)),
            },
        }
        self.key = Some(key);
        Ok(())
    }
}

/// Why nothing is known about the Secret, or why it does not exist yet.
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

fn random() -> io::Result<Vec<u8>> {
    let mut key = vec![0; LENGTH];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(key)
}

fn secret(namespace: &str, name: &str, key: Vec<u8>) -> Secret {
    Secret {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some([(FIELD.to_owned(), ByteString(key))].into()),
        ..Secret::default()
    }
}
