//! The command reference is what clap knows of the command line. `UPDATE=1 cargo test --test it docs::commands` writes
//! it.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};

use super::keys::hold;

const HEAD: &str = "# Command reference

This page is generated from the program's own help. [Commands](commands.md) is the overview, with what each command is for.

Exit codes: 0 success; 1 refused, failed, or something was found; 2 wrong usage.

Every command takes these options:

";

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

/// How an argument is written: `--name <VALUE>`, `-x, --name`, `<VALUE>`.
fn spelling(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default().iter().map(|name| format!("<{name}>"));
    let value =
        if arg.get_action().takes_values() { values.collect::<Vec<_>>().join(" ") } else { String::new() };
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    format!("{} {value}", names.join(", ")).trim().to_owned()
}

fn description(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<String> =
        arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if !values.is_empty() && arg.get_action().takes_values() {
        write!(text, "; one of {}", values.join(", ")).unwrap();
    }
    let defaults = arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy()));
    let defaults: Vec<String> = defaults.collect();
    if !defaults.is_empty() && arg.get_action().takes_values() {
        write!(text, "; default {}", defaults.join(", ")).unwrap();
    }
    if let Some(variable) = arg.get_env() {
        write!(text, "; or the variable `{}`", variable.to_string_lossy()).unwrap();
    }
    cell(&text)
}

fn table<'a>(out: &mut String, args: impl Iterator<Item = &'a Arg>) {
    let rows: Vec<String> =
        args.map(|arg| format!("| `{}` | {} |\n", spelling(arg), description(arg))).collect();
    if !rows.is_empty() {
        write!(out, "| argument | meaning |\n| --- | --- |\n{}\n", rows.concat()).unwrap();
    }
}

fn section(out: &mut String, command: &mut Command, path: &str, depth: usize) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    write!(out, "{} `{path}`\n\n{about}.\n\nUsage: `{usage}`\n\n", "#".repeat(depth)).unwrap();
    let is_listed = |arg: &&Arg| {
        let is_standard =
            matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpLong | ArgAction::Version);
        !arg.is_global_set() && !is_standard
    };
    table(out, command.get_arguments().filter(is_listed));
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        let path = format!("{path} {}", sub.get_name());
        section(out, sub, &path, 3);
    }
}

#[test]
fn the_command_reference_is_generated() {
    let mut root = claviger::cli::command();
    root.build();
    let mut page = HEAD.to_owned();
    table(&mut page, root.get_arguments().filter(|arg| arg.is_global_set()));
    let mut names = Vec::new();
    for command in root.get_subcommands_mut().filter(|command| command.get_name() != "help") {
        let path = format!("claviger {}", command.get_name());
        section(&mut page, command, &path, 2);
        names.push(path);
    }
    assert!(names.len() > 15, "{names:?}");
    hold("docs/en/command-reference.md", &format!("{}\n", page.trim_end()));
}
