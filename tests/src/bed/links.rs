//! Which of the bed's links are cut and how much is lost on them, as rules for `nft`. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// What no longer gets through. Hosts are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// Nothing to and from this host.
    Host(usize),
    /// Nothing between these two.
    Between(usize, usize),
    /// Nothing from the first to the second; what the second sends arrives.
    From(usize, usize),
}

impl Cut {
    /// The directions, `None` being every host.
    fn directions(self) -> Vec<(Option<usize>, Option<usize>)> {
        match self {
            Self::Host(host) => vec![(Some(host), None), (None, Some(host))],
            Self::Between(one, other) => vec![(Some(one), Some(other)), (Some(other), Some(one))],
            Self::From(from, to) => vec![(Some(from), Some(to))],
        }
    }
}

/// All links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// What is cut.
    pub cuts: BTreeSet<Cut>,
    /// Of a thousand frames to and from each of these hosts so many are lost, each way.
    pub losses: BTreeMap<usize, u32>,
}

impl Links {
    /// The rules of the switch, in place of those that it has.
    pub fn ruleset(&self) -> String {
        let mut rules = String::new();
        for (from, to) in self.cuts.iter().flat_map(|cut| cut.directions()) {
            rules += &rule(from, to, "drop");
        }
        for (&host, permille) in &self.losses {
            for (from, to) in Cut::Host(host).directions() {
                rules += &rule(from, to, &format!("numgen random mod 1000 < {permille} drop"));
            }
        }
        // A table that is not there cannot be deleted; one that is there can be made.
        let head = "table bridge bed\ndelete table bridge bed\ntable bridge bed {\nchain forward {\n";
        format!("{head}type filter hook forward priority 0\n{rules}}}\n}}\n")
    }
}

fn rule(from: Option<usize>, to: Option<usize>, verdict: &str) -> String {
    let mut rule = String::new();
    for (direction, host) in [("iifname", from), ("oifname", to)] {
        if let Some(host) = host {
            let _ = write!(rule, "{direction} \"{}\" ", port(host));
        }
    }
    rule + verdict + "\n"
}

/// The name of the switch's port to this host.
pub(super) fn port(host: usize) -> String {
    format!("h{}", host + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(links: &Links) -> Vec<String> {
        let text = links.ruleset();
        let inside = text.split_once("priority 0\n").unwrap().1;
        inside.lines().filter(|line| !line.starts_with('}')).map(str::to_owned).collect()
    }

    #[test]
    fn each_cut_drops_what_it_says() {
        for (cut, want) in [
            (Cut::Host(0), &["iifname \"h1\" drop", "oifname \"h1\" drop"][..]),
            (Cut::Between(0, 2), &["iifname \"h1\" oifname \"h3\" drop", "iifname \"h3\" oifname \"h1\" drop"]),
            (Cut::From(1, 0), &["iifname \"h2\" oifname \"h1\" drop"]),
        ] {
            let links = Links { cuts: [cut].into(), ..Links::default() };
            assert_eq!(rules(&links), want, "{cut:?}");
        }
    }

    #[test]
    fn some_is_lost_each_way_and_nothing_without_a_fault() {
        let links = Links { losses: [(2, 150)].into(), ..Links::default() };
        let lost = "numgen random mod 1000 < 150 drop";
        assert_eq!(rules(&links), [format!("iifname \"h3\" {lost}"), format!("oifname \"h3\" {lost}")]);
        assert!(rules(&Links::default()).is_empty());
    }
}
