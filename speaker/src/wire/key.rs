//! The shared key of a cluster, derived from a key file that is identical on all nodes.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A key file has at least this many bytes (a base64 line of 16 random bytes has 24).
pub const SHORTEST: usize = 16;

/// A larger file is not a key and is not read further.
const LONGEST: u64 = 4096;

/// Separates keys that are derived from one file for different uses.
const LABEL: &[u8] = b"ferrolb members v1\0";

/// Why the key could not be read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file does not exist.
    #[error(
        "key file {0} does not exist: make one with `head -c 32 /dev/urandom | base64 > {0}; chmod 600 {0}` and copy it to all nodes"
    )]
    Missing(PathBuf),
    /// The file can't be read.
    #[error("cannot read key file {0}: {1}")]
    Io(PathBuf, io::Error),
    /// The file is too short to be secret.
    #[error(
        "key file {0} holds {1} bytes: at least {SHORTEST} are needed, 32 random ones are best"
    )]
    Short(PathBuf, usize),
    /// The file is too long to be a key.
    #[error("key file {0} holds more than {LONGEST} bytes: it is not a key")]
    Long(PathBuf),
}

/// The key of the members' packets.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// Derives the key from a secret of any length.
    pub fn derive(secret: &[u8]) -> Self {
        Self(
            Sha256::new()
                .chain_update(LABEL)
                .chain_update(secret)
                .finalize()
                .into(),
        )
    }

    /// Reads a key file. White space at its end is not part of the key, because editors and `echo` may add a newline on one node
    /// only.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let named = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => KeyError::Missing(path.to_owned()),
            _ => KeyError::Io(path.to_owned(), e),
        };
        let mut secret = Vec::new();
        File::open(path)
            .and_then(|f| f.take(LONGEST + 1).read_to_end(&mut secret))
            .map_err(named)?;
        if secret.len() as u64 > LONGEST {
            return Err(KeyError::Long(path.to_owned()));
        }
        let secret = secret.trim_ascii_end();
        if secret.len() < SHORTEST {
            return Err(KeyError::Short(path.to_owned(), secret.len()));
        }
        Ok(Self::derive(secret))
    }

    /// A key that no other node has, for a node that is alone.
    pub fn random() -> io::Result<Self> {
        random::<32>().map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Random octets from the kernel.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut octets = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut octets)?;
    Ok(octets)
}

/// A random number from the kernel.
pub fn random_u64() -> io::Result<u64> {
    random().map(u64::from_be_bytes)
}
