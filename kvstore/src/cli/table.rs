//! Rows as columns, two blanks apart, as Consul prints them. Pure.

use std::collections::BTreeMap;

/// Lines of equally wide columns; the last one is not padded.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |n: usize| rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..count).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = padded.collect::<Vec<_>>().join("  ");
        out.extend([line.trim_end(), "\n"]);
    }
    out
}

/// A row of texts.
pub(super) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(ToOwned::to_owned).into()
}

/// `name=value` pairs in one cell.
pub(super) fn pairs(map: Option<&BTreeMap<String, String>>, between: &str) -> String {
    map.into_iter().flatten().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [row(["Node", "DC"]), row(["n\u{e4}chster", "dc1"]), row(["x", ""])];
        assert_eq!(columns(&rows), "Node      DC\nn\u{e4}chster  dc1\nx\n");
        assert_eq!(columns(&[]), "");
    }
}
