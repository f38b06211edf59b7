#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

#[test]
fn what_is_about_a_cluster_and_nothing_else_stands_under_that_heading() {
    for name in ["node", "controller"] {
        let program = Cli::command();
        let command = program.find_subcommand(name).unwrap();
        let under = command
            .get_arguments()
            .filter(|a| a.get_help_heading() == Some(CLUSTER));
        let under: Vec<&str> = under.filter_map(|a| a.get_long()).collect();
        let expected = ["kubeconfig", "context", "server", "namespace", "lb-class"];
        assert_eq!(under, expected, "{name}");
    }
}

#[test]
fn a_namespace_of_the_pools_is_refused_where_a_folder_says_it() {
    let with = |more: &[&'static str]| {
        let line = ["ferrolb", "node", "--manifests", "m", "--state", "s"];
        Cli::try_parse_from(line.iter().chain(more))
    };
    assert!(with(&[]).is_ok());
    let error = with(&["--namespace", "lb"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ArgumentConflict);
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn a_port_of_zero_is_refused() {
    let line = [
        "ferrolb",
        "node",
        "--manifests",
        "m",
        "--state",
        "s",
        "--port",
        "0",
    ];
    assert_eq!(Cli::try_parse_from(line).unwrap_err().exit_code(), 2);
}

#[test]
fn no_line_of_help_is_longer_than_a_terminal_of_80_columns() {
    let mut program = Cli::command();
    program.build();
    let commands = program.get_subcommands().cloned();
    for mut command in commands.chain([Cli::command()]) {
        for text in [command.render_help(), command.render_long_help()] {
            let text = text.to_string();
            let long = text.lines().find(|line| line.chars().count() > 80);
            assert_eq!(long, None, "{}", command.get_name());
        }
    }
}

#[test]
fn every_command_that_takes_arguments_shows_an_example_and_its_exit_codes() {
    for command in Cli::command().get_subcommands() {
        let after = command.get_after_help().map(ToString::to_string);
        let after = after.unwrap_or_default();
        assert!(after.contains("Example"), "{}", command.get_name());
        let runs = ["node", "controller", "status", "cleanup"];
        if runs.contains(&command.get_name()) {
            assert!(after.contains("Exit codes: 0 "), "{}", command.get_name());
        }
    }
}
