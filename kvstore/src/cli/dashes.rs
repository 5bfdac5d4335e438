//! Consul's options have one dash; these are rewritten to two before the arguments are parsed. Pure.

use std::{collections::HashSet, ffi::OsString};

use clap::Command;

/// `args` with `-name` and `-name=value` as `--name` and `--name=value`, where the commands named on the way know such a
/// long option. All else stays, and so does everything after `--`.
pub(super) fn double(args: Vec<OsString>, root: &Command) -> Vec<OsString> {
    let mut command = root;
    let mut known = longs(root);
    let mut rest_is_data = false;
    let mut rewrite = |arg: OsString| {
        let Some(text) = arg.to_str().filter(|_| !rest_is_data) else { return arg };
        if text == "--" {
            rest_is_data = true;
            return arg;
        }
        let Some(name) = text.strip_prefix('-') else {
            if let Some(sub) = command.find_subcommand(text) {
                command = sub;
                known.extend(longs(sub));
            }
            return arg;
        };
        let bare = name.split('=').next().unwrap_or_default();
        if known.contains(bare) { format!("-{text}").into() } else { arg }
    };
    let mut args = args.into_iter();
    args.next().into_iter().collect::<Vec<_>>().into_iter().chain(args.map(&mut rewrite)).collect()
}

/// The long options of a command, one-letter ones left out: `-h` is a short option already.
fn longs(command: &Command) -> HashSet<String> {
    let options = command.get_arguments().flat_map(|arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        arg.get_long().into_iter().chain(aliases).map(ToOwned::to_owned).collect::<Vec<_>>()
    });
    options.chain(["help".into(), "version".into()]).filter(|name| name.len() > 1).collect()
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
        ] {
            assert_eq!(double_of(line), expected);
        }
    }
}
