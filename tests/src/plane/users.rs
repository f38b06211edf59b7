//! Who may speak to the API server with a token of the token file: one for each component of the plane and of the lab, so that the audit log tells them
//! apart. The product's own components have service accounts, as they are deployed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A user of the token file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum User {
    /// Whoever applies manifests: may do everything.
    Admin,
    /// The controller manager; its controllers have service accounts of their own.
    ControllerManager,
    /// The lab's kubelet, which also stands in for the scheduler.
    Kubelet,
    /// Someone known with no role.
    Stranger,
}

/// All of them.
pub const USERS: [User; 4] = [
    User::Admin,
    User::ControllerManager,
    User::Kubelet,
    User::Stranger,
];

/// The file's name in the plane's folder.
pub(super) const FILE: &str = "tokens.csv";

impl User {
    /// The name that the API server and the audit log know.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "lab-admin",
            // The cluster role that comes with the API server is bound to this name.
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

/// Makes a token for each user and writes the API server's token file (`token,user,uid,"groups"`).
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

/// The tokens of a token file that [`write()`] made.
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
