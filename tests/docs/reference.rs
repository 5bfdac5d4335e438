//! `docs/reference`: what the programs print as their reference. `make docs` writes it anew.

use std::{env, fs};

use flotilla_tests::{program_path, workspace};

/// Each page's program, its name, and its title.
const PAGES: &[(&str, &str, &str)] = &[
    ("kvstore", "commands", "Commands of kvstore"),
    ("kvstore", "configuration", "Configuration of kvstore agent"),
    ("kvstore", "endpoints", "HTTP API of kvstore"),
    ("kvstore", "metrics", "Metrics of kvstore"),
    ("registrar", "commands", "Commands of registrar"),
    ("registrar", "configuration", "Configuration of registrar"),
    ("registrar", "metrics", "Metrics of registrar"),
    ("templater", "commands", "Commands of templater"),
    ("templater", "configuration", "Configuration of templater"),
    ("templater", "metrics", "Metrics of templater"),
    ("templater", "templates", "Templates of templater"),
    ("overlay", "commands", "Commands of overlay"),
    ("overlay", "configuration", "Configuration of overlay up"),
    ("overlay", "metrics", "Metrics of overlay"),
];

#[test]
fn the_reference_is_what_the_programs_say() {
    let renew = env::var_os("RENEW_DOCS").is_some();
    let mut stale = Vec::new();
    for (program, page, title) in PAGES {
        let said = std::process::Command::new(program_path(program)).args(["reference", page]).output();
        let said = said.expect("the program runs");
        assert!(said.status.success(), "{program} reference {page}: {}", String::from_utf8_lossy(&said.stderr));
        let said = String::from_utf8(said.stdout).expect("Markdown is text");
        let text = format!("# {title}\n\n`{program} reference {page}` prints this page.\n\n{said}");
        let name = format!("docs/reference/{program}-{page}.md");
        let path = workspace().join(&name);
        if renew {
            fs::write(&path, &text).unwrap_or_else(|e| panic!("{name}: {e}"));
        } else if fs::read_to_string(&path).unwrap_or_default() != text {
            stale.push(name);
        }
    }
    assert_eq!(stale, [""; 0], "these pages are stale; `make docs` writes them anew");
}
