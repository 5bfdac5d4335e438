//! nginx: which file it was started with, what that includes, and how to ask it about a new one. Pure.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use glob::{MatchOptions, Pattern};

use super::absolute;

/// Where distributions keep the main file, if nginx was started without `-c`.
pub const DEFAULT_MAIN: &str = "/etc/nginx/nginx.conf";

/// Whether `text` has blocks that only nginx's configuration has.
pub fn looks_like(text: &str) -> bool {
    let mut blocks = text.lines().filter_map(block);
    let other = |name: &str| matches!(name, "http" | "stream" | "upstream" | "server" | "map" | "mail");
    blocks.any(|name| name == "events") || {
        // A lone `server {` may be anything; directives end in semicolons and braces are closed.
        let complete = text.lines().any(|l| l.trim_end().ends_with(';')) && text.lines().any(|l| l.trim() == "}");
        complete && text.lines().filter_map(block).any(other)
    }
}

/// The name of the block that a line at the outer level opens.
fn block(line: &str) -> Option<&str> {
    if line.starts_with(char::is_whitespace) || !line.contains('{') {
        return None;
    }
    line.split(|c: char| c.is_whitespace() || c == '{').next()
}

/// Whether `text` is a whole configuration, which nginx can check by itself; else it is a part for an include.
pub fn is_main(text: &str) -> bool {
    let mut depth = 0_usize;
    for line in text.lines() {
        let code = line.split('#').next().unwrap_or_default().trim();
        if depth == 0 && code.split(|c: char| c.is_whitespace() || c == '{').next() == Some("events") {
            return true;
        }
        depth = (depth + code.matches('{').count()).saturating_sub(code.matches('}').count());
    }
    false
}

/// How an nginx was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its main file.
    pub main: PathBuf,
    /// Its prefix, if it was given one: logs and the like are relative to that.
    pub prefix: Option<PathBuf>,
    /// Where it logs before it has read its main file, if it was told: a check elsewhere may lack the right to the usual.
    pub error_log: Option<String>,
}

/// How an nginx was started whose master shows `title` (its arguments, or the title it gave itself) and runs in
/// `directory`.
pub fn started(title: &[String], directory: &Path) -> Start {
    // The master overwrites its arguments: one string, "nginx: master process nginx -c FILE".
    let words: Vec<&str> = title.iter().flat_map(|w| w.split_whitespace()).collect();
    let option = |name: &str| {
        let at = words.iter().position(|w| *w == name)?;
        words.get(at + 1).map(Path::new)
    };
    let prefix = option("-p").map(|p| absolute(directory, p));
    let base = prefix.clone().unwrap_or_else(|| "/usr/share/nginx".into());
    let main = match option("-c") {
        Some(file) => absolute(&base, file),
        None if prefix.is_some() => base.join("conf/nginx.conf"),
        None => DEFAULT_MAIN.into(),
    };
    let error_log = option("-e").map(|p| p.display().to_string());
    Start { main, prefix, error_log }
}

/// The patterns that `text` includes, absolute: nginx reads them from the directory of its main file, `directory`.
pub fn includes(text: &str, directory: &Path) -> Vec<PathBuf> {
    text.lines().filter_map(|line| include_of(line, directory)).collect()
}

fn include_of(line: &str, directory: &Path) -> Option<PathBuf> {
    let code = line.split('#').next()?.trim();
    let (pattern, rest) = code.strip_prefix("include")?.split_once(';')?;
    if !pattern.starts_with(char::is_whitespace) || !rest.trim().is_empty() {
        return None;
    }
    Some(absolute(directory, Path::new(pattern.trim().trim_matches(['"', '\'']))))
}

/// The line that includes `path`.
fn include(path: &Path) -> String {
    let path = path.display().to_string();
    if path.contains(|c: char| c.is_whitespace() || ";{}#\"'\\".contains(c)) {
        return format!("include \"{}\";", path.replace('\\', "\\\\").replace('"', "\\\""));
    }
    format!("include {path};")
}

/// Whether `path` is one of those that `pattern` names: by `*`, `?` and `[...]` in its last component.
pub fn matches(pattern: &Path, path: &Path) -> bool {
    if pattern.parent() != path.parent() {
        return false;
    }
    let (Some(pattern), Some(name)) = (pattern.file_name(), path.file_name()) else {
        return false;
    };
    let (mut pattern, name) = (pattern.to_string_lossy().into_owned(), name.to_string_lossy());
    // Several stars are one, and not any number of directories.
    while pattern.contains("**") {
        pattern = pattern.replace("**", "*");
    }
    // As the C library does: a leading dot is never matched by a wildcard, and what is no pattern is a name.
    let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
    Pattern::new(&pattern).map_or(pattern == name, |pattern| pattern.matches_with(&name, options))
}

/// The main file's `text` with each staged file in the place of its destination (`replaced` has pairs of both): the
/// include that names it is replaced by one for each file of it. `None` if some destination is named by no include.
///
/// `list` gives the files that exist in a directory.
pub fn with_staged(
    text: &str,
    directory: &Path,
    replaced: &[(&Path, &Path)],
    list: impl Fn(&Path) -> Vec<PathBuf>,
) -> Option<String> {
    let mut found: BTreeSet<&(&Path, &Path)> = BTreeSet::new();
    let mut out = String::with_capacity(text.len() + 128);
    for line in text.lines() {
        let pattern = include_of(line, directory);
        let named: Vec<_> = pattern.iter().flat_map(|p| replaced.iter().filter(|(path, _)| matches(p, path))).collect();
        if let (Some(pattern), false) = (&pattern, named.is_empty()) {
            let folder = pattern.parent().unwrap_or(Path::new("/"));
            let mut files: BTreeSet<PathBuf> = list(folder).into_iter().filter(|p| matches(pattern, p)).collect();
            files.extend(named.iter().map(|(destination, _)| destination.to_path_buf()));
            for file in files {
                let staged = named.iter().find(|(destination, _)| *destination == file).map(|(_, staged)| *staged);
                out.push_str(&include(staged.unwrap_or(&file)));
            }
            found.extend(named);
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    (found.len() == replaced.len()).then_some(out)
}

/// A main file that does nothing but include `staged`, whose text is `text`: for parts whose main file is not known.
pub fn wrapper(staged: &[&Path], text: &str) -> String {
    let includes: String = staged.iter().map(|path| include(path) + "\n").collect();
    let outer = text.lines().filter_map(block).any(|name| matches!(name, "http" | "stream" | "mail"));
    if outer { format!("events {{}}\n{includes}") } else { format!("events {{}}\nhttp {{\n{includes}}}\n") }
}

/// `program -t` over the main file `main`, otherwise as the running one was started.
pub fn check_command(program: &str, main: &Path, running: Option<&Start>) -> Vec<String> {
    let mut words = [program, "-t", "-q", "-c", &main.display().to_string()].map(str::to_owned).to_vec();
    if let Some(prefix) = running.and_then(|r| r.prefix.as_ref()) {
        words.extend(["-p".to_owned(), prefix.display().to_string()]);
    }
    if let Some(log) = running.and_then(|r| r.error_log.as_ref()) {
        words.extend(["-e".to_owned(), log.clone()]);
    }
    words
}

/// The lines of a failed check's output that say what is wrong.
pub fn complaints(output: &str) -> String {
    let told: Vec<&str> = output
        .lines()
        .filter(|l| ["[emerg]", "[crit]", "[alert]", "[error]"].iter().any(|level| l.contains(level)))
        .map(|l| l.find('[').map_or(l, |at| &l[at..]))
        .collect();
    if told.is_empty() { output.trim().to_owned() } else { told.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_file_of_a_master_is_found() {
        let cases = [
            ("nginx: master process nginx -c /srv/nginx.conf", "/srv/nginx.conf"),
            ("nginx: master process /usr/sbin/nginx -g daemon on;", DEFAULT_MAIN),
            ("nginx: master process nginx -p run -c n.conf", "/cwd/run/n.conf"),
            ("nginx: master process nginx -p /run/x", "/run/x/conf/nginx.conf"),
        ];
        for (title, expected) in cases {
            assert_eq!(started(&[title.to_owned()], Path::new("/cwd")).main, Path::new(expected), "{title}");
        }
    }

    #[test]
    fn a_check_has_the_prefix_and_the_log_of_the_running_one() {
        let title = "nginx: master process nginx -p /run/x -e stderr -g daemon off;";
        let running = started(&[title.to_owned()], Path::new("/"));
        let words = check_command("nginx", Path::new("/m"), Some(&running));
        assert_eq!(words.join(" "), "nginx -t -q -c /m -p /run/x -e stderr");
        assert_eq!(check_command("nginx", Path::new("/m"), None).join(" "), "nginx -t -q -c /m");
    }

    #[test]
    fn a_whole_file_is_told_from_a_part() {
        assert!(is_main("user www;\nevents {\n}\nhttp {}\n"));
        assert!(is_main("http { server {\n } }\nevents{}"));
        assert!(!is_main("upstream a {\n  server 1.2.3.4;\n}\n"));
        assert!(!is_main("# events {}\nserver { events x; }\n"));
    }

    #[test]
    fn includes_match_as_nginx_does() {
        let text = "http {\n  include mime.types;\n  include \"conf.d/*.conf\"; # x\n  #include no;\n includes x;\n}";
        let found = includes(text, Path::new("/etc/nginx"));
        assert_eq!(found, ["/etc/nginx/mime.types", "/etc/nginx/conf.d/*.conf"].map(PathBuf::from));
        for (pattern, path, expected) in [
            ("/d/*.conf", "/d/web.conf", true),
            ("/d/*", "/d/.web.conf.tmp", false),
            ("/d/*.conf", "/e/web.conf", false),
            ("/d/w?b.c*f", "/d/web.conf", true),
            ("/d/web.conf", "/d/web.conf", true),
            ("/d/*.conf", "/d/web.conf.bak", false),
            ("/d/**.c***f", "/d/web.conf", true),
            ("/d/[a-w]*.conf", "/d/web.conf", true),
            ("/d/[!w]*", "/d/web.conf", false),
            ("/d/[w", "/d/[w", true),
        ] {
            assert_eq!(matches(Path::new(pattern), Path::new(path)), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_part_is_checked_in_its_main_file() {
        let main = "events {}\nhttp {\n  include conf.d/*.conf;\n}\n";
        let list =
            |_: &Path| ["/n/conf.d/z.conf", "/n/conf.d/web.conf", "/n/conf.d/README"].map(PathBuf::from).to_vec();
        let dst = Path::new("/n/conf.d/web.conf");
        let staged = Path::new("/n/conf.d/.s");
        let got = with_staged(main, Path::new("/n"), &[(dst, staged)], list);
        assert_eq!(got.unwrap(), "events {}\nhttp {\ninclude /n/conf.d/.s;include /n/conf.d/z.conf;\n}\n");
        let elsewhere = (Path::new("/x/web.conf"), dst);
        assert_eq!(with_staged(main, Path::new("/n"), &[elsewhere], list), None);
        assert_eq!(with_staged(main, Path::new("/n"), &[(dst, staged), elsewhere], list), None, "all or none");
        let both = [(dst, staged), (Path::new("/n/conf.d/a.conf"), Path::new("/n/conf.d/.a"))];
        let got = with_staged(main, Path::new("/n"), &both, list).unwrap();
        assert!(got.contains("include /n/conf.d/.a;include /n/conf.d/.s;include /n/conf.d/z.conf;"), "{got}");
        assert!(wrapper(&[dst], "upstream a {\n").contains("http {\ninclude /n/conf.d/web.conf;"));
        assert!(!wrapper(&[dst], "stream {\n").contains("http"));
        let odd = wrapper(&[Path::new("/n/my \"conf\"/a.conf")], "");
        assert!(odd.contains(r#"include "/n/my \"conf\"/a.conf";"#), "{odd}");
    }

    #[test]
    fn complaints_are_told_without_the_noise() {
        let output = "2026/11/21 10:12:50 [emerg] 12995#12995: no \"events\" section in configuration\n\
                      nginx: configuration file /x test failed\n";
        assert_eq!(complaints(output), "[emerg] 12995#12995: no \"events\" section in configuration");
    }
}
