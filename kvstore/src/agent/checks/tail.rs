//! The last bytes of an output, however long it is.

use std::fmt;

/// Keeps at most as many bytes as it was made for (twice that while it is filled), and counts all.
#[derive(Debug)]
pub(super) struct Tail {
    max: usize,
    kept: Vec<u8>,
    total: u64,
}

impl Tail {
    pub(super) fn new(max: usize) -> Self {
        Self { max, kept: Vec::new(), total: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        self.kept.extend_from_slice(&bytes[bytes.len().saturating_sub(self.max)..]);
        if self.kept.len() > 2 * self.max {
            self.kept.drain(..self.kept.len() - self.max);
        }
    }
}

/// Says, as Consul does, when it is not all.
impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = &self.kept[self.kept.len().saturating_sub(self.max)..];
        if self.total > last.len() as u64 {
            writeln!(f, "Captured {} of {} bytes\n...", last.len(), self.total)?;
        }
        f.write_str(&String::from_utf8_lossy(last))
    }
}

#[cfg(test)]
mod tests {
    use super::Tail;

    #[test]
    fn the_last_bytes_are_kept_and_all_are_counted() {
        for (max, pieces, expected) in [
            (4, &[][..], ""),
            (4, &["ab", "cd"], "abcd"),
            (4, &["abcde"], "Captured 4 of 5 bytes\n...\nbcde"),
            (4, &["ab", "cd", "ef", "gh", "ijk"], "Captured 4 of 11 bytes\n...\nhijk"),
            (4, &["abcdefghijklmnop", "q"], "Captured 4 of 17 bytes\n...\nnopq"),
        ] {
            let mut tail = Tail::new(max);
            for piece in pieces {
                tail.push(piece.as_bytes());
            }
            assert_eq!(tail.to_string(), expected, "{max} {pieces:?}");
            assert!(tail.kept.len() <= 2 * max);
        }
    }
}
