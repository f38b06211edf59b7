//! `lab`: runs tests and the demo on a kernel that supports them, and reports what this machine lacks.
#![allow(missing_docs)]

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use ferrolb_tests::need::Need;
use ferrolb_tests::plane::Shared;
use ferrolb_tests::vm::{self, Tier};

/// The lab of ferrolb: namespaces, pods, traffic, and a VM where the kernel has no IPVS.
#[derive(Parser)]
#[command(name = "lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a command here if this machine can, else in a VM; its exit code is the lab's.
    Run {
        /// What the command needs.
        #[arg(long, value_enum, default_value = "kernel")]
        tier: Tier,
        /// Seconds until it is given up.
        #[arg(long, default_value_t = 3600)]
        timeout: u64,
        /// Run a control plane beside it, here, and tell it where.
        #[arg(long)]
        plane: bool,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Show the users' manifests on three nodes; exit code 1 if any check fails.
    Demo {
        /// Seconds until it is given up.
        #[arg(long, default_value_t = 1200)]
        timeout: u64,
    },
    /// Say what of the needed things is here.
    Needs,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run {
            tier,
            timeout,
            plane,
            command,
        } => run(tier, &command, Duration::from_secs(timeout), plane),
        Command::Demo { timeout } => demo(Duration::from_secs(timeout)),
        Command::Needs => needs(),
    }
}

fn run(tier: Tier, command: &[String], timeout: Duration, plane: bool) -> ExitCode {
    if plane && !Need::Plane.met() {
        eprintln!("lab: no {}", Need::Plane);
        return ExitCode::from(125);
    }
    let plane = plane.then(Shared::start);
    match vm::run(tier, command, timeout, plane.as_ref()) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::from(125)
        }
    }
}

/// Runs the demo here if the kernel supports it, otherwise this same command in a VM.
fn demo(timeout: Duration) -> ExitCode {
    if vm::native(Tier::Kernel) {
        return if ferrolb_tests::demo::run() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    println!(
        "  … this kernel has no IPVS: booting a VM that has. Usually 10 s, and then a minute for all that follows"
    );
    let program = std::env::current_exe()
        .map(|path| path.display().to_string())
        .unwrap_or_else(|_| "lab".to_owned());
    run(Tier::Kernel, &[program, "demo".to_owned()], timeout, false)
}

fn needs() -> ExitCode {
    let tools = [
        "ip", "nft", "ipvsadm", "nginx", "arping", "ping", "curl", "openssl", "strace",
    ]
    .map(Need::Tool);
    let all = [
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::CoreDns,
        Need::Plane,
        Need::Ferrolb,
    ];
    for need in all.into_iter().chain(tools) {
        println!("{} {need}", if need.met() { "✓" } else { "✗" });
    }
    println!(
        "kernel tier: {}",
        if vm::native(Tier::Kernel) {
            "natively"
        } else {
            "in a VM"
        }
    );
    println!(
        "lab tier: {}",
        if vm::native(Tier::Lab) {
            "natively"
        } else {
            "in a VM"
        }
    );
    ExitCode::SUCCESS
}
