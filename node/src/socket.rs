//! The Unix socket for `ferrolb status`. Every connection receives the node's status as one JSON object.
//!
//! The file's mode decides who may connect: root, and the members of one group if a group was named.

use std::fs::Permissions;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Gid, Group};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{debug, warn};

use crate::error::Error;

/// How many clients are served at once. Others have to wait.
const ASKERS: usize = 8;
/// A client that does not read is disconnected after this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the node sends its status as JSON.
pub(crate) type Question = oneshot::Sender<Arc<[u8]>>;

/// A bound socket.
pub(crate) struct StatusSocket {
    listener: UnixListener,
}

/// The socket's file, which is removed when this is dropped.
pub(crate) struct SocketFile(PathBuf);

impl StatusSocket {
    /// Binds the socket. A file that a dead node left is replaced. It is an error if a node still answers there.
    pub(crate) async fn bind(
        path: &Path,
        group: Option<&str>,
    ) -> Result<(Self, SocketFile), Error> {
        let file = |source| Error::Socket {
            path: path.to_owned(),
            source,
        };
        let gid = group.map(group_id).transpose()?;
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(folder)
                .map_err(file)?;
        }
        if UnixStream::connect(path).await.is_ok() {
            return Err(Error::InUse {
                path: path.to_owned(),
            });
        }
        match std::fs::symlink_metadata(path) {
            // Only a socket is replaced: any other file of this name belongs to somebody.
            Ok(found) if !found.file_type().is_socket() => {
                let other = std::io::Error::other("this is not a socket, and it stays as it is");
                return Err(file(other));
            }
            Ok(_) => std::fs::remove_file(path).map_err(file)?,
            Err(_) => {}
        }
        // Nobody may connect between bind and chmod, so the file is created without any rights for others.
        let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        nix::sys::stat::umask(before);
        let listener = listener.map_err(file)?;
        let made = SocketFile(path.to_owned());
        if let Some(gid) = gid {
            nix::unistd::chown(path, None, Some(gid)).map_err(|e| file(e.into()))?;
            std::fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(file)?;
        }
        Ok((Self { listener }, made))
    }

    /// Answers clients with the node's answer to a [`Question`], forever.
    pub(crate) async fn serve(&self, node: mpsc::Sender<Question>) {
        let places = Arc::new(Semaphore::new(ASKERS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((mut stream, _)) => {
                    let node = node.clone();
                    tokio::spawn(async move {
                        let answered = tokio::time::timeout(PATIENCE, async {
                            let (answer, text) = oneshot::channel();
                            node.send(answer).await.map_err(std::io::Error::other)?;
                            stream
                                .write_all(&text.await.map_err(std::io::Error::other)?)
                                .await?;
                            stream.shutdown().await
                        });
                        if !matches!(answered.await, Ok(Ok(()))) {
                            debug!("an asker for the status left early");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, "status socket: accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn group_id(name: &str) -> Result<Gid, Error> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        _ => Err(Error::Usage(format!(
            "--socket-group {name}: there is no such group; make it with `groupadd {name}`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[tokio::test]
    async fn only_a_socket_is_replaced_by_the_socket() {
        let path = std::env::temp_dir().join(format!("ferrolb-precious-{}", std::process::id()));
        std::fs::write(&path, "precious").unwrap();
        let refused = StatusSocket::bind(&path, None)
            .await
            .err()
            .expect("an error");
        assert!(
            refused.to_string().contains("this is not a socket"),
            "{refused}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (_socket, file) = StatusSocket::bind(&path, None).await.unwrap();
        drop(file);
        assert!(!path.exists());
    }
}
