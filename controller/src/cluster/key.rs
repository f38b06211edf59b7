//! The key that the nodes share: a Secret, made by whoever finds none. MetalLB does this with its `memberlist`.
//!
//! A Secret that is there is never read or changed: the right to create one is all that is needed, and a key that the users
//! made themselves stays.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use ferrolb_api::Backoff;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use tracing::{info, warn};

use super::api::answer;
use super::chance;
use super::writer::WriteError;

/// The key's name in the Secret, and so that of its file where it is mounted.
pub const FIELD: &str = "key";
/// 256 bits.
const LENGTH: usize = 32;
/// Between two attempts.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Makes the Secret where there is none, however long that takes.
pub async fn ensure(client: &Client, namespace: &str, name: &str) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut told = None;
    let mut backoff = PAUSES;
    loop {
        let failure = match secret(namespace, name) {
            Ok(secret) => {
                let params = PostParams::default();
                let made = secrets.create(&params, &secret);
                match answer(made, &format!("create secrets in namespace {namespace}")).await {
                    Ok(()) => {
                        info!("Secret {namespace}/{name} made: the key that the nodes share");
                        return;
                    }
                    Err(WriteError::Stale(message)) if message.contains("already exists") => return,
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => format!("/dev/urandom: {error}"),
        };
        if told.as_ref() != Some(&failure) {
            warn!(
                "Secret {namespace}/{name} not made: {failure}; trying again, the nodes wait for it"
            );
            told = Some(failure);
        }
        tokio::time::sleep(backoff.next(chance())).await;
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
