//! HAProxy: which files it was started with, and how to ask it about a new one. Pure.

use std::path::{Path, PathBuf};

use super::absolute;

/// Whether `text` has the sections of an HAProxy configuration.
pub fn looks_like(text: &str) -> bool {
    let section = |line: &str| {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("global" | "defaults"), None) => true,
            (Some("defaults" | "frontend" | "backend" | "listen"), Some(name)) => !name.starts_with(['{', '=', ':']),
            _ => false,
        }
    };
    // At the start of a line: other formats have such words too, but two of them, alone, hardly ever.
    text.lines().filter(|l| !l.starts_with(char::is_whitespace) && section(l)).take(2).count() == 2
}

/// The configuration files and directories of an HAProxy started as `argv` in `directory`, absolute, in order.
pub fn configured(argv: &[String], directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut words = argv.iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-f" => found.extend(words.next()),
            "--" => found.extend(words.by_ref()),
            _ => {}
        }
    }
    found.into_iter().map(|path| absolute(directory, Path::new(path))).collect()
}

/// Whether a command line asks for master-worker mode, in which a signal reloads.
pub fn asks_for_master(argv: &[String]) -> bool {
    argv.iter().skip(1).any(|word| word == "-W" || word == "-Ws")
}

/// What to give `-c` so that the files of `configured` are checked with each staged file in the place of its
/// destination; `replaced` has pairs of both.
///
/// `list` gives the files that HAProxy reads of a directory: those ending in `.cfg`, sorted.
pub fn with_staged(
    configured: &[PathBuf],
    replaced: &[(&Path, &Path)],
    list: impl Fn(&Path) -> Vec<PathBuf>,
) -> Vec<PathBuf> {
    let staged = |path: &Path| replaced.iter().find(|(destination, _)| *destination == path).map(|(_, staged)| *staged);
    let mut files = Vec::new();
    for path in configured {
        let inside = || replaced.iter().map(|(destination, _)| *destination).filter(|d| d.parent() == Some(path));
        if let Some(staged) = staged(path) {
            files.push(staged.to_owned());
        } else if inside().next().is_some() {
            let mut all = list(path);
            all.extend(inside().map(Path::to_owned));
            all.sort();
            all.dedup();
            files.extend(all.iter().map(|p| staged(p).unwrap_or(p).to_owned()));
        } else {
            files.push(path.clone());
        }
    }
    if files.is_empty() { replaced.iter().map(|(_, staged)| staged.to_path_buf()).collect() } else { files }
}

/// `program -c` over `files`.
pub fn check_command(program: &str, files: &[PathBuf]) -> Vec<String> {
    let named = files.iter().flat_map(|f| ["-f".to_owned(), f.display().to_string()]);
    [program.to_owned(), "-c".to_owned()].into_iter().chain(named).collect()
}

/// The lines of a failed check's output that say what is wrong.
pub fn complaints(output: &str) -> String {
    let told: Vec<&str> = output
        .lines()
        .filter(|l| l.contains("[ALERT]") && !l.contains("Fatal errors found") && !l.contains("Error(s) found"))
        .map(|l| l.split_once(") : ").map_or(l, |(_, rest)| rest))
        .collect();
    if told.is_empty() { output.trim().to_owned() } else { told.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    fn paths(line: &str) -> Vec<PathBuf> {
        line.split(' ').filter(|p| !p.is_empty()).map(PathBuf::from).collect()
    }

    #[test]
    fn the_files_of_a_command_line_are_found() {
        let cases = [
            ("haproxy -W -f haproxy.cfg", "/run/haproxy.cfg"),
            ("haproxy -sf 12952 -x sockpair@3 -W -f haproxy.cfg", "/run/haproxy.cfg"),
            ("haproxy -Ws -f /etc/a.cfg -p /run/p.pid -f ../conf.d", "/etc/a.cfg /conf.d"),
            ("haproxy -W -- a.cfg b.cfg", "/run/a.cfg /run/b.cfg"),
            ("haproxy -f", ""),
            ("haproxy", ""),
        ];
        for (line, expected) in cases {
            assert_eq!(configured(&words(line), Path::new("/run")), paths(expected), "{line}");
        }
        assert!(asks_for_master(&words("haproxy -Ws -f x")));
        assert!(!asks_for_master(&words("haproxy -f -Wx")));
    }

    #[test]
    fn the_staged_file_is_checked_among_its_siblings() {
        let list = |_: &Path| paths("/c/a.cfg /c/z.cfg");
        let cases = [
            ("", "/c/.s"),
            ("/c/b.cfg", "/c/.s"),
            ("/etc/g.cfg /c/b.cfg", "/etc/g.cfg /c/.s"),
            ("/etc/g.cfg /c", "/etc/g.cfg /c/a.cfg /c/.s /c/z.cfg"),
        ];
        for (configured, expected) in cases {
            let got = with_staged(&paths(configured), &[(Path::new("/c/b.cfg"), Path::new("/c/.s"))], list);
            assert_eq!(got, paths(expected), "{configured}");
        }
        let both = [("/c/b.cfg", "/c/.b"), ("/c/a.cfg", "/c/.a")].map(|(d, s)| (Path::new(d), Path::new(s)));
        for (configured, expected) in [("/c", "/c/.a /c/.b /c/z.cfg"), ("/c/a.cfg /c/b.cfg", "/c/.a /c/.b")] {
            assert_eq!(with_staged(&paths(configured), &both, list), paths(expected), "{configured}");
        }
        assert_eq!(check_command("haproxy", &paths("/a /b")), words("haproxy -c -f /a -f /b"));
    }

    #[test]
    fn complaints_are_told_without_the_noise() {
        let output = "[NOTICE]   (12945) : haproxy version is 2.6.12\n\
                      [ALERT]    (12945) : config : parsing [.x:4] : unknown proxy mode 'htpp'.\n\
                      [ALERT]    (12945) : config : Error(s) found in configuration file : .x\n\
                      [ALERT]    (12945) : config : Fatal errors found in configuration.\n";
        assert_eq!(complaints(output), "config : parsing [.x:4] : unknown proxy mode 'htpp'.");
        assert_eq!(complaints("exec: not found\n"), "exec: not found");
    }
}
