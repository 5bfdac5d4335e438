//! What this version takes and tells, as Markdown for readers. Pure.

use clap::CommandFactory as _;
use kvstore_client::{monitoring, reference};

use crate::{
    cli::{Cli, Page},
    filters::{FILTERS, TESTS},
    status::METRICS,
};

/// The keys of the configuration file.
const CONFIGURATION: &str = include_str!("config.md");
/// The functions of templates, our own filters, and what they give.
const TEMPLATES: &str = include_str!("functions.md");

/// One page.
pub fn page(page: Page) -> String {
    match page {
        Page::Commands => reference::commands(&Cli::command()),
        Page::Configuration => CONFIGURATION.into(),
        Page::Metrics => monitoring::page(METRICS),
        Page::Templates => {
            format!("{TEMPLATES}\n### All filters\n\n{}\n### All tests\n\n{}", takes(FILTERS), takes(TESTS))
        }
    }
}

/// What filters or tests take, Tera's own included.
fn takes(all: &[(&str, &[&str])]) -> String {
    let mut all = all.to_vec();
    all.sort_unstable();
    let call = |(name, arguments): &(&str, &[&str])| {
        let arguments: Vec<_> = arguments.iter().map(|argument| format!("{argument}=")).collect();
        let arguments = if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(", ")) };
        reference::code(&format!("{name}{arguments}"))
    };
    all.iter().map(call).collect::<Vec<_>>().join(", ") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions;

    /// The first cells of all tables in `text`, as code.
    fn calls(text: &str) -> String {
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        rows.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_function_is_told_with_its_arguments() {
        let calls = calls(TEMPLATES);
        for (name, arguments) in functions::known() {
            let told: Vec<_> = calls.split(['`', '\n']).filter(|call| call.starts_with(&format!("{name}("))).collect();
            assert!(!told.is_empty(), "{name}() is not told");
            for argument in arguments {
                assert!(told.iter().any(|call| call.contains(&format!("{argument}="))), "{argument}= of {name}()");
            }
        }
    }

    #[test]
    fn every_filter_of_ours_is_told() {
        let calls = calls(TEMPLATES);
        // From here on they are Tera's own.
        let ours = FILTERS.iter().take_while(|(name, _)| *name != "default");
        for (name, _) in ours.chain(TESTS.iter().take(1)) {
            let found = TEMPLATES.contains(&format!("`{name}`")) || TEMPLATES.contains(&format!("`{name}("));
            assert!(found, "{name} is not told in\n{calls}");
        }
    }
}
