//! The users in the API server's token file: one for each component of the plane and of the lab, so that the audit log can
//! distinguish them. The product's own components use service accounts, as in a deployment.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A user of the token file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum User {
    /// The user who applies manifests; may do everything.
    Admin,
    /// The controller manager; its controllers use their own service accounts.
    ControllerManager,
    /// The lab's kubelet, which also takes the scheduler's role.
    Kubelet,
    /// A known user without a role.
    Stranger,
}

/// All users.
pub const USERS: [User; 4] = [
    User::Admin,
    User::ControllerManager,
    User::Kubelet,
    User::Stranger,
];

/// The file's name in the plane's folder.
pub(super) const FILE: &str = "tokens.csv";

impl User {
    /// The name in the API server and the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "lab-admin",
            // The API server's built-in cluster role is bound to this name.
            Self::ControllerManager => "system:kube-controller-manager",
            Self::Kubelet => "lab-kubelet",
            Self::Stranger => "lab-stranger",
        }
    }

    fn groups(self) -> &'static str {
        match self {
            Self::Admin => "system:masters",
            _ => "",
        }
    }
}

/// Creates a token for each user and writes the API server's token file (`token,user,uid,"groups"`).
pub(super) fn write(folder: &Path) {
    let mut lines = String::new();
    for user in USERS {
        let (token, name, groups) = (random(), user.name(), user.groups());
        lines.push_str(&format!("{token},{name},{name},\"{groups}\"\n"));
    }
    let path = folder.join(FILE);
    fs::write(&path, lines).expect("the token file can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it can be made private");
}

/// Reads the tokens from a file that [`write()`] created.
pub(super) fn read(folder: &Path) -> BTreeMap<User, String> {
    let path = folder.join(FILE);
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut tokens = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(',');
        let (token, name) = (
            fields.next().unwrap_or_default(),
            fields.next().unwrap_or_default(),
        );
        if let Some(&user) = USERS.iter().find(|user| user.name() == name) {
            tokens.insert(user, token.to_owned());
        }
    }
    tokens
}

fn random() -> String {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .expect("the kernel gives random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
