//! The script that the guest runs: it mounts the caching view of the host's files, runs the command in it and writes its exit
//! code to the shared folder.

use std::path::Path;

use super::Job;
use crate::paths::lab_dir;

/// This file says that the guest has booted and now runs the command.
pub(super) const UP: &str = "up";
/// The command's output.
pub(super) const OUTPUT: &str = "output";
/// The command's exit code.
pub(super) const CODE: &str = "rc";
/// The guest's processes, written repeatedly as its sign of life.
pub(super) const BEAT: &str = "beat";

/// A shell script; its files are in `folder`.
pub(super) fn script(folder: &Path, job: &Job<'_>, kvm: bool) -> String {
    let folder = quoted(&folder.display().to_string());
    let here = std::env::current_dir()
        .map(|path| path.display().to_string())
        .unwrap_or_else(|_| "/".to_owned());
    let mut exports = String::new();
    let passed = [
        "FERROLB_", "RUST_", "CARGO_", "CI", "HOME", "PATH", "NO_COLOR",
    ];
    // Cargo sets variables whose names a shell does not accept: CARGO_BIN_EXE_lab-http.
    let fits = |name: &str| {
        name.chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            && passed.iter().any(|prefix| name.starts_with(prefix))
    };
    let given = job.variables.iter().flatten().cloned();
    for (name, value) in std::env::vars().filter(|(name, _)| fits(name)).chain(given) {
        exports.push_str(&format!("export {name}={}\n", quoted(&value)));
    }
    if !kvm && std::env::var_os("FERROLB_SLOW").is_none() {
        exports.push_str("export FERROLB_SLOW=5\n");
    }
    // Configures statically what qemu's user network would assign: 10.0.2.15, with the host at 10.0.2.2.
    let network = if job.variables.is_some() {
        "/run/lab-modprobe virtio_net; ip link set lo up; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up\n"
    } else {
        ""
    };
    let command: Vec<String> = job.command.iter().map(|word| quoted(word)).collect();
    let command = command.join(" ");
    format!(
        "exec >>{folder}/{OUTPUT} 2>&1 </dev/null\n\
         {exports}unset FERROLB_FORCE_VM\nexport FERROLB_VM=1\nset -e\n\
         mkdir -p /run/host\n\
         mount -t 9p -o ro,version=9p2000.L,trans=virtio,access=any,msize=512000,cache=loose host /run/host\n\
         for part in proc sys dev run tmp; do mount --rbind /$part /run/host/$part; done\n\
         set +e\n\
         printf '#!/bin/sh\\nexec /sbin/modprobe -d %s \"$@\"\\n' {modules} >/run/lab-modprobe\n\
         chmod 755 /run/lab-modprobe\n\
         echo /run/lab-modprobe >/proc/sys/kernel/modprobe\n\
         /run/lab-modprobe -a ip_vs ip_vs_rr nf_tables veth bridge dummy >/dev/null 2>&1\n\
         {network}\
         while :; do cat /proc/uptime >{folder}/{BEAT}.new; ps --ppid 2 -p 2 --deselect -o pid,stat,etime,wchan:24,args >>{folder}/{BEAT}.new; mv {folder}/{BEAT}.new {folder}/{BEAT}; sleep 20; done &\n\
         : >{folder}/{UP}\n\
         chroot /run/host sh -c 'cd \"$1\" && shift && exec \"$@\"' sh {here} {command}\n\
         echo $? >{folder}/{CODE}\nsync\n",
        here = quoted(&here),
        // The modules are beside the image, where the guest's kernel finds them; nothing is created under the host's
        // /lib/modules.
        modules = quoted(&lab_dir().join("kernel").display().to_string()),
    )
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
