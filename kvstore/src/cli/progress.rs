//! How far long work is, to who watches: on standard error, where that is a terminal, and gone when the work ends.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

/// Of so many things in all.
pub(super) fn counting(what: &'static str, total: usize) -> ProgressBar {
    shown(ProgressBar::new(total as u64), what, "{msg} [{bar:30}] {human_pos} of {human_len}, {per_sec}")
}

/// Of bytes, of which nobody knows how many will come.
pub(super) fn bytes(what: &'static str) -> ProgressBar {
    shown(ProgressBar::no_length(), what, "{spinner} {msg}: {bytes}, {bytes_per_sec}")
}

/// Of one step, of which only the end is seen.
pub(super) fn waiting(what: &'static str) -> ProgressBar {
    shown(ProgressBar::no_length(), what, "{spinner} {msg}: {elapsed}")
}

fn shown(bar: ProgressBar, what: &'static str, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("a constant template").progress_chars("=> ");
    let bar = bar.with_style(style).with_message(what).with_finish(ProgressFinish::AndClear);
    if !bar.is_hidden() {
        // Its thread shows that the program lives where a single step takes long.
        bar.enable_steady_tick(Duration::from_millis(100));
    }
    bar
}
