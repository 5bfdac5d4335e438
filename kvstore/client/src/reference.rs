//! What a program takes and tells, as Markdown: each prints its own by `PROGRAM reference PAGE`, and the pages in
//! `docs/reference` are that. Pure.

use clap::{Arg, Command};

/// A table with these columns.
pub fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let line = |cells: [String; N]| format!("| {} |\n", cells.join(" | "));
    let begin = line(head.map(str::to_owned)) + &line([(); N].map(|()| "---".to_owned()));
    rows.into_iter().fold(begin, |table, row| table + &line(row.map(|cell| cell.replace('|', "\\|"))))
}

/// As code within a line.
pub fn code(text: &str) -> String {
    format!("`{text}`")
}

/// `text` of a help as Markdown of one line; what it has as code stays so.
pub fn prose(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let plain = |text: &str| text.replace('*', "\\*").replace('_', "\\_").replace('<', "&lt;").replace('[', "\\[");
    let parts = words.split('`').enumerate();
    parts.map(|(n, part)| if n % 2 == 0 { plain(part) } else { code(part) }).collect()
}

/// The heading of the options that many commands have; they stand once, at the end.
const SHARED: &str = "Registry";

/// A program's commands with their options and examples.
pub fn commands(root: &Command) -> String {
    let mut all = Vec::new();
    collect(root, String::new(), &mut all);
    let about = |command: &Command| prose(&command.get_about().map(ToString::to_string).unwrap_or_default());
    let index = all.iter().map(|(path, command)| [format!("[`{path}`](#{})", path.replace(' ', "-")), about(command)]);
    let begin = table(["command", "does"], index) + "\nThe options of a command hold for the commands below it.\n";
    let sections = all.iter().map(|(path, command)| format!("\n## {path}\n\n{}", section(command)));
    let shared = all.iter().map(|(_, command)| own_and_shared(command).1).find(|shared| !shared.is_empty());
    let end = shared.map(|shared| format!("\n## Options for the registry\n\n{}", options(shared)));
    [begin].into_iter().chain(sections).chain(end).collect()
}

fn collect<'a>(command: &'a Command, before: String, all: &mut Vec<(String, &'a Command)>) {
    let path = before + command.get_name();
    all.push((path.clone(), command));
    let shown = command.get_subcommands().filter(|inner| !inner.is_hide_set());
    shown.for_each(|inner| collect(inner, format!("{path} "), all));
}

fn section(command: &Command) -> String {
    let long = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let mut parts: Vec<_> = long.split("\n\n").map(|part| prose(part) + "\n").collect();
    let (own, shared) = own_and_shared(command);
    if !own.is_empty() {
        parts.push(options(own));
    }
    if !shared.is_empty() {
        parts.push("And the [options for the registry](#options-for-the-registry).\n".into());
    }
    if let Some(help) = command.get_after_help() {
        parts.push(format!("```text\n{}\n```\n", help.to_string().trim()));
    }
    parts.join("\n")
}

fn own_and_shared(command: &Command) -> (Vec<&Arg>, Vec<&Arg>) {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    shown.partition(|arg| arg.get_help_heading() != Some(SHARED))
}

/// The keys of a file that are the long options of `command`.
pub fn keys(command: &Command) -> String {
    let long = command.get_arguments().filter_map(|arg| Some([code(arg.get_long()?), meaning(arg)]));
    table(["key", "meaning"], long)
}

/// The options and arguments of a command.
fn options<'a>(args: impl IntoIterator<Item = &'a Arg>) -> String {
    table(["option", "meaning"], args.into_iter().map(|arg| [code(&spelled(arg)), meaning(arg)]))
}

fn spelled(arg: &Arg) -> String {
    let name = arg.get_long().map(|long| format!("--{long}")).or(arg.get_short().map(|short| format!("-{short}")));
    let takes = arg.is_positional() || arg.get_action().takes_values();
    let values = arg.get_value_names().filter(|_| takes).unwrap_or_default().iter().map(ToString::to_string);
    name.into_iter().chain(values).collect::<Vec<_>>().join(" ")
}

fn meaning(arg: &Arg) -> String {
    let help = prose(&arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default());
    let end = if help.ends_with('.') { "" } else { "." };
    let takes = arg.get_action().takes_values();
    let words = arg.get_possible_values();
    let words: Vec<_> = if words.iter().any(|word| word.get_help().is_some()) {
        words.iter().map(|word| code(word.get_name())).collect()
    } else {
        Vec::new()
    };
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| code(&value.to_string_lossy())).collect();
    let sentence =
        |begin: &str, words: &[String]| (!words.is_empty()).then(|| format!("{begin} {}.", words.join(", ")));
    let words = sentence("One of", &words).filter(|_| takes);
    let defaults = sentence("Default:", &defaults).filter(|_| takes);
    let variable = arg.get_env().map(|name| format!("Environment: {}.", code(&name.to_string_lossy())));
    [help + end].into_iter().chain(words).chain(defaults).chain(variable).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::{ArgAction, Command};

    use super::*;

    #[test]
    fn commands_tell_their_options_once() {
        let address = Arg::new("address").long("address").env("ADDRESS").help("Where").help_heading("Registry");
        let get = Command::new("get")
            .about("Prints *.x of <y>")
            .arg(Arg::new("key").value_name("A|B").help("With `a|b_c` and a_b"))
            .arg(Arg::new("raw").long("raw").action(ArgAction::SetTrue).help("As it is"))
            .arg(address.value_name("HOST:PORT").default_value("x:1"))
            .after_help("Examples:\n  p get");
        let page = commands(&Command::new("p").about("All").subcommand(get));
        assert_eq!(
            page,
            "| command | does |\n| --- | --- |\n| [`p`](#p) | All |\n| [`p get`](#p-get) | Prints \\*.x of &lt;y> |\n\n\
             The options of a command hold for the commands below it.\n\n\
             ## p\n\nAll\n\n\
             ## p get\n\nPrints \\*.x of &lt;y>\n\n\
             | option | meaning |\n| --- | --- |\n| `A\\|B` | With `a\\|b_c` and a\\_b. |\n| `--raw` | As it is. |\n\n\
             And the [options for the registry](#options-for-the-registry).\n\n\
             ```text\nExamples:\n  p get\n```\n\n\
             ## Options for the registry\n\n\
             | option | meaning |\n| --- | --- |\n\
             | `--address HOST:PORT` | Where. Default: `x:1`. Environment: `ADDRESS`. |\n"
        );
    }
}
