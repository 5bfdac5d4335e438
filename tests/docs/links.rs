//! Links from one file of the documentation to another, and to a heading in it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use flotilla_tests::workspace;

/// All Markdown below `dir`, but for what is built or not ours.
fn pages(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
            pages(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The text without its code, which holds no links and no headings.
fn without_code(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        is_code ^= fence;
        !fence && !is_code
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The targets of `[..](TARGET)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next())
}

/// The anchor of each heading, as GitHub and mdBook make it.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    };
    headings.map(|heading| heading.chars().filter_map(kept).collect()).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut all = Vec::new();
    pages(workspace(), &mut all);
    let mut broken = Vec::new();
    for page in &all {
        let text = without_code(&fs::read_to_string(page).expect("it was there just now"));
        let elsewhere = |link: &&str| !link.contains("://") && !link.starts_with("mailto:");
        for link in links(&text).map(|link| link.trim_matches(['<', '>'])).filter(elsewhere) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            let found = target.exists()
                && (anchor.is_empty()
                    || anchors(&without_code(&fs::read_to_string(&target).unwrap_or_default())).contains(anchor));
            if !found {
                broken.push(format!("{}: {link}", page.strip_prefix(workspace()).unwrap_or(page).display()));
            }
        }
    }
    assert_eq!(broken, [""; 0]);
}

#[test]
fn the_book_is_whole_and_leads_nowhere_outside() {
    let docs = workspace().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).expect("the book has a table of contents");
    let listed: BTreeSet<_> = links(&summary).map(|link| docs.join(link)).collect();
    let mut all = Vec::new();
    pages(&docs, &mut all);
    for page in all.iter().filter(|page| !page.ends_with("SUMMARY.md")) {
        assert!(listed.contains(page), "{} is not in docs/SUMMARY.md", page.display());
        let text = without_code(&fs::read_to_string(page).expect("it was there just now"));
        for link in links(&text).filter(|link| link.starts_with("../")) {
            let target = page.with_file_name(link).canonicalize().unwrap_or_else(|e| panic!("{link}: {e}"));
            assert!(target.starts_with(&docs), "{}: {link} is outside of the book", page.display());
        }
    }
}

#[test]
fn a_broken_link_would_be_seen() {
    let text = without_code("# A b, c!\n[x](y.md#z) `a` [q](<w>)\n```\n[no](no)\n# no\n```\n");
    assert_eq!(links(&text).collect::<Vec<_>>(), ["y.md#z", "<w>"]);
    assert_eq!(anchors(&text).into_iter().collect::<Vec<_>>(), ["a-b-c"]);
}
