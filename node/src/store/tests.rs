#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::Arc;

use super::*;
use crate::agreement::table::Table;
use ferrolb_controller::assignment::Assignment;
use ferrolb_controller::testing::{ip, key};

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("ferrolb-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn saved() -> Saved {
    let mut table = Table::default();
    table.version.number = 3;
    table.assignments.insert(
        key("default/web"),
        Assignment {
            cluster_ips: vec![ip("10.96.0.2")],
            addresses: vec![ip("172.17.255.1"), ip("1::1")],
            pool: Some("default".into()),
            terms: u64::MAX,
        },
    );
    let table = Arc::new(table);
    Saved {
        held: table.clone(),
        agreed: table,
        ..Saved::default()
    }
}

#[test]
fn what_was_saved_is_loaded_after_a_restart() {
    let dir = Dir::new("restart");
    let store = DirStore::open(dir.0.join("deep/er")).unwrap();
    assert!(store.load().unwrap().is_none());
    store.save(&Saved::default()).unwrap();
    store.save(&saved()).unwrap();
    let again = DirStore::open(dir.0.join("deep/er")).unwrap();
    assert_eq!(again.load().unwrap(), Some(saved()));
    assert!(!dir.0.join("deep/er").join(TEMPORARY).exists());
}

#[test]
fn a_write_that_was_cut_off_leaves_the_old_state() {
    let dir = Dir::new("cut");
    let store = DirStore::open(&dir.0).unwrap();
    store.save(&saved()).unwrap();
    fs::write(dir.0.join(TEMPORARY), b"{\"form").unwrap();
    assert_eq!(store.load().unwrap(), Some(saved()));
    store.save(&saved()).unwrap();
}

#[test]
fn a_corrupt_file_is_copied_aside_and_the_error_says_what_to_do() {
    let dir = Dir::new("corrupt");
    let store = DirStore::open(&dir.0).unwrap();
    for text in [
        "",
        "{\"format\":1}",
        "no json",
        "{\"format\":1,\"promised\":3}",
    ] {
        fs::write(dir.0.join(FILE), text).unwrap();
        let error = store.load().unwrap_err().to_string();
        assert!(
            error.contains("assignments.json.corrupt") && error.contains("delete it"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(dir.0.join(CORRUPT)).unwrap(), text);
        assert_eq!(fs::read_to_string(dir.0.join(FILE)).unwrap(), text);
    }
}

#[test]
fn a_newer_format_is_left_alone() {
    let dir = Dir::new("newer");
    let store = DirStore::open(&dir.0).unwrap();
    fs::write(dir.0.join(FILE), "{\"format\":9,\"x\":1}").unwrap();
    assert!(matches!(
        store.load(),
        Err(StoreError::Newer { found: 9, .. })
    ));
}

#[test]
fn a_round_without_a_successor_is_refused_at_start() {
    let dir = Dir::new("poisoned");
    let store = DirStore::open(&dir.0).unwrap();
    let mut poisoned = saved();
    poisoned.promised.round = MAX_ROUND - 1;
    store.save(&poisoned).unwrap();
    assert!(store.load().is_ok());
    poisoned.promised.round = 1 << 63;
    store.save(&poisoned).unwrap();
    let error = store.load().unwrap_err().to_string();
    assert!(
        error.contains("round or number 9223372036854775808") && error.contains("delete it"),
        "{error}"
    );
}

#[test]
fn a_link_in_place_of_the_new_file_is_replaced_and_its_target_left_alone() {
    let dir = Dir::new("link");
    let store = DirStore::open(dir.0.join("state")).unwrap();
    let target = dir.0.join("target");
    fs::write(&target, "mine").unwrap();
    for name in [TEMPORARY, CORRUPT] {
        std::os::unix::fs::symlink(&target, dir.0.join("state").join(name)).unwrap();
    }
    store.save(&saved()).unwrap();
    assert_eq!(store.load().unwrap(), Some(saved()));
    fs::write(dir.0.join("state").join(FILE), "no json").unwrap();
    assert!(matches!(store.load(), Err(StoreError::Corrupt { .. })));
    assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
}

#[test]
fn a_pipe_or_folder_in_place_of_the_file_is_refused_at_once() {
    let dir = Dir::new("pipe");
    let store = DirStore::open(&dir.0).unwrap();
    let file = dir.0.join(FILE);
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = store.load().unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(store.load().is_err());
}

#[test]
fn a_link_in_place_of_the_file_is_not_followed() {
    let dir = Dir::new("followed");
    let store = DirStore::open(dir.0.join("state")).unwrap();
    store.save(&saved()).unwrap();
    let (file, target) = (dir.0.join("state").join(FILE), dir.0.join("target"));
    fs::rename(&file, &target).unwrap();
    std::os::unix::fs::symlink(&target, &file).unwrap();
    let error = store.load().unwrap_err().to_string();
    assert!(
        error.contains("it is a symbolic link, which is not followed"),
        "{error}"
    );
}

#[test]
fn a_file_larger_than_any_state_is_not_read() {
    let dir = Dir::new("large");
    let store = DirStore::open(&dir.0).unwrap();
    let file = File::create(dir.0.join(FILE)).unwrap();
    file.set_len(MAX_FILE + 1).unwrap();
    let error = store.load().unwrap_err().to_string();
    assert!(error.contains("no state has more"), "{error}");
}

#[test]
fn the_largest_tables_fit_into_a_file_that_is_read() {
    // The shortest entries grow most: the field names are as large as their values.
    let mut table = Table::default();
    for n in 0..2000u32 {
        let name = format!("a/{n}");
        table.assignments.insert(key(&name), Assignment::default());
    }
    let wire = table.encode().len() as u64;
    let table = Arc::new(table);
    let saved = Saved {
        held: table.clone(),
        agreed: table,
        ..Saved::default()
    };
    let written = Written {
        format: FORMAT,
        saved: &saved,
    };
    let file = serde_json::to_vec(&written).unwrap().len() as u64;
    assert!(
        file * MAX_TABLE as u64 / wire <= MAX_FILE,
        "{file} for {wire}"
    );
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let error = DirStore::open("/proc/ferrolb/state")
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("/proc/ferrolb/state: "), "{error}");
    let denied = StoreError::io(Path::new("/x"), io::ErrorKind::PermissionDenied.into());
    assert_eq!(
        denied.to_string(),
        "/x: permission denied: run as root, or give this user the directory named by --state"
    );
}
