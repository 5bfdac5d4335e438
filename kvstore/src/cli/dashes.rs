//! Consul's options have one dash; these are rewritten to two before the arguments are parsed. Pure.

use std::{collections::HashMap, ffi::OsString};

use clap::{Arg, ArgAction, Command};

/// `args` with `-name` and `-name=value` as `--name` and `--name=value`, where the commands named on the way know such a
/// long option. All else stays, and so does everything after `--`, and a child's command line with its own options.
///
/// As in Go, a switch may be given with its value: `-verbose=true` is `--verbose`, `-verbose=false` is nothing.
pub(super) fn double(args: Vec<OsString>, root: &Command) -> Vec<OsString> {
    let mut args = args.into_iter().peekable();
    let mut out: Vec<_> = args.next().into_iter().collect();
    let mut line = Line::new(root);
    while let Some(arg) = args.next() {
        let Some(text) = arg.to_str().filter(|_| !line.rest_is_data) else {
            out.push(arg);
            continue;
        };
        let Some((name, value)) = option(text) else {
            line.word(text);
            out.push(arg);
            continue;
        };
        match (line.kind_of(name), value) {
            (Kind::Switch, Some("false" | "f" | "F" | "0" | "FALSE" | "False")) => {}
            (Kind::Switch, Some("true" | "t" | "T" | "1" | "TRUE" | "True")) => out.push(format!("--{name}").into()),
            (Kind::Maybe, None) => {
                let next = args.next_if(|next| next == "true" || next == "false");
                let next = next.map_or(String::new(), |next| format!("={}", next.display()));
                out.push(format!("--{name}{next}").into());
            }
            (Kind::Value, None) => {
                out.push(format!("--{name}").into());
                out.extend(args.next());
            }
            (Kind::Short, None) if text.len() == 2 => {
                out.push(arg);
                out.extend(args.next());
            }
            (Kind::Unknown | Kind::Short, _) => out.push(arg),
            _ => out.push(format!("--{}", text.trim_start_matches('-')).into()),
        }
    }
    out
}

/// The name and value of `-name=value` or `--name=value`.
fn option(text: &str) -> Option<(&str, Option<&str>)> {
    let name = text.strip_prefix('-')?;
    let name = name.strip_prefix('-').unwrap_or(name);
    Some(name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)))).filter(|(n, _)| !n.is_empty())
}

/// What comes after an option.
#[derive(Clone, Copy)]
enum Kind {
    /// Nothing that is known here.
    Unknown,
    /// Nothing, or a truth.
    Switch,
    /// A truth may.
    Maybe,
    /// A value must.
    Value,
    /// A value must, and its name has one letter.
    Short,
}

impl Kind {
    fn of(arg: &Arg) -> Self {
        match arg.get_action() {
            ArgAction::Set | ArgAction::Append if arg.is_require_equals_set() => Self::Maybe,
            ArgAction::Set | ArgAction::Append => Self::Value,
            _ => Self::Switch,
        }
    }
}

/// Where the rewriting is in the line.
struct Line<'a> {
    command: &'a Command,
    options: HashMap<String, Kind>,
    /// Words that were neither commands nor options.
    words: usize,
    rest_is_data: bool,
}

impl<'a> Line<'a> {
    fn new(root: &'a Command) -> Self {
        let mut line = Self { command: root, options: HashMap::new(), words: 0, rest_is_data: false };
        line.enter(root);
        line.options.extend([("help".into(), Kind::Switch), ("version".into(), Kind::Switch)]);
        line
    }

    /// Options of a command hold for its subcommands, too; clap tells where they do not.
    fn enter(&mut self, command: &'a Command) {
        self.command = command;
        for arg in command.get_arguments() {
            let aliases = arg.get_all_aliases().unwrap_or_default();
            let names = arg.get_long().into_iter().chain(aliases).filter(|name| name.len() > 1);
            self.options.extend(names.map(|name| (name.to_owned(), Kind::of(arg))));
            if let (Some(short), Kind::Value) = (arg.get_short(), Kind::of(arg)) {
                self.options.insert(short.into(), Kind::Short);
            }
        }
    }

    fn kind_of(&self, name: &str) -> Kind {
        self.options.get(name).copied().unwrap_or(Kind::Unknown)
    }

    fn word(&mut self, text: &str) {
        if text == "--" {
            self.rest_is_data = true;
        } else if let Some(sub) = self.command.find_subcommand(text).filter(|_| self.words == 0) {
            self.enter(sub);
        } else {
            self.words += 1;
            let child = self.command.get_positionals().position(Arg::is_trailing_var_arg_set);
            self.rest_is_data = child.is_some_and(|child| child < self.words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn double_of(line: &str) -> String {
        let args = line.split(' ').map(Into::into).collect();
        let args = double(args, &super::super::Cli::command());
        args.iter().map(|arg| arg.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn known_options_get_their_second_dash() {
        for (line, expected) in [
            (
                "kvstore agent -dev -client 0.0.0.0 -node=n1 -bootstrap-expect=1",
                "kvstore agent --dev --client 0.0.0.0 --node=n1 --bootstrap-expect=1",
            ),
            ("kvstore agent --dev", "kvstore agent --dev"),
            ("kvstore kv get -recurse a", "kvstore kv get --recurse a"),
            ("kvstore kv get -http-addr=h:1 a", "kvstore kv get --http-addr=h:1 a"),
            ("kvstore -help", "kvstore --help"),
            ("kvstore agent -h", "kvstore agent -h"),
            ("kvstore agent -unknown", "kvstore agent -unknown"),
            // `dev` is no option of `kv`, and what follows `--` is data.
            ("kvstore kv put k -dev", "kvstore kv put k -dev"),
            ("kvstore kv put k -- -cas", "kvstore kv put k -- -cas"),
            ("kvstore kv put k -5", "kvstore kv put k -5"),
            ("kvstore kv put k -", "kvstore kv put k -"),
        ] {
            assert_eq!(double_of(line), expected);
        }
    }

    #[test]
    fn switches_take_their_value_as_in_go() {
        for (line, expected) in [
            ("kvstore kv get -recurse=true a", "kvstore kv get --recurse a"),
            ("kvstore kv get --recurse=false -keys a", "kvstore kv get --keys a"),
            ("kvstore kv get -recurse=perhaps a", "kvstore kv get --recurse=perhaps a"),
            ("kvstore agent -dev=false", "kvstore agent --dev=false"),
            ("kvstore agent -dev false", "kvstore agent --dev=false"),
        ] {
            assert_eq!(double_of(line), expected);
        }
    }

    #[test]
    fn a_value_is_no_option_and_no_command() {
        let line = "kvstore services register -name -tag -id kv -port 1";
        assert_eq!(double_of(line), "kvstore services register --name -tag --id kv --port 1");
    }

    #[test]
    fn a_childs_options_are_its_own() {
        for (line, expected) in [
            (
                "kvstore watch -type key -key kv handler -key -verbose=true",
                "kvstore watch --type key --key kv handler -key -verbose=true",
            ),
            (
                "kvstore watch -type service -passingonly true -service web ./x -tag",
                "kvstore watch --type service --passingonly=true --service web ./x -tag",
            ),
            (
                "kvstore lock -n 2 -try 5s -verbose jobs ./x -name y",
                "kvstore lock -n 2 --try 5s --verbose jobs ./x -name y",
            ),
            (
                "kvstore lock -n=2 -shell=false jobs -verbose ./x -n=3",
                "kvstore lock -n=2 --shell=false jobs --verbose ./x -n=3",
            ),
            ("kvstore lock jobs -- -x -verbose", "kvstore lock jobs -- -x -verbose"),
            ("kvstore lock kv get -recurse", "kvstore lock kv get -recurse"),
        ] {
            assert_eq!(double_of(line), expected);
        }
    }
}
