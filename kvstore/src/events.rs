//! Events that clients fire for each other: the newest few, in memory, with nothing kept.
//!
//! An event has filters: regular expressions for the node's name and for a service and a tag of the node. Only events
//! that fit this node are listed here.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use regex::{Regex, RegexBuilder};
use tokio::sync::watch;
use uuid::Uuid;

/// So many are listed; the oldest goes first.
pub(crate) const MAX_EVENTS: usize = 256;

/// The longest payload: with [`MAX_EVENTS`] of them 4 MiB.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 16 << 10;

/// A filter that needs more than this when compiled is refused.
const MAX_FILTER_BYTES: usize = 1 << 20;

/// An event as it was fired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the API's
pub(crate) struct Event {
    pub id: Uuid,
    pub name: String,
    pub payload: Bytes,
    pub node_filter: String,
    pub service_filter: String,
    pub tag_filter: String,
    /// Its place in the order of events; 0 before it has one.
    pub time: u64,
}

/// Why an event is not fired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidEvent {
    /// A tag of no service.
    #[error("Cannot provide tag filter without service filter")]
    TagWithoutService,
    /// Not a regular expression.
    #[error("Invalid {which} filter: {why}")]
    Filter {
        /// Which one.
        which: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Too long a payload.
    #[error("user event exceeds sane limit of {MAX_PAYLOAD_BYTES} bytes before encoding")]
    Payload,
}

/// Where an event may be of interest: a node and its services, each with its tags.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Names and tags of its services.
    pub services: Vec<(&'a str, &'a [String])>,
}

/// The filters of an event, compiled.
#[derive(Debug)]
pub(crate) struct Filters {
    node: Option<Regex>,
    service: Option<Regex>,
    tag: Option<Regex>,
}

impl Filters {
    /// Those of `event`; an empty filter takes everything.
    ///
    /// # Errors
    /// [`InvalidEvent`] if one cannot be read or makes no sense.
    pub(crate) fn of(event: &Event) -> Result<Self, InvalidEvent> {
        if event.payload.len() > MAX_PAYLOAD_BYTES {
            return Err(InvalidEvent::Payload);
        }
        let compile = |which, text: &str| {
            let regex = || RegexBuilder::new(text).size_limit(MAX_FILTER_BYTES).build();
            let invalid = |error: regex::Error| InvalidEvent::Filter { which, why: error.to_string() };
            (!text.is_empty()).then(regex).transpose().map_err(invalid)
        };
        let node = compile("node", &event.node_filter)?;
        let service = compile("service", &event.service_filter)?;
        let tag = compile("tag", &event.tag_filter)?;
        if tag.is_some() && service.is_none() {
            return Err(InvalidEvent::TagWithoutService);
        }
        Ok(Self { node, service, tag })
    }

    /// Whether the event is for `place`.
    pub(crate) fn take(&self, place: &Place<'_>) -> bool {
        let fits = |filter: &Option<Regex>, text: &str| filter.as_ref().is_none_or(|regex| regex.is_match(text));
        let tagged = |tags: &[String]| self.tag.is_none() || tags.iter().any(|tag| fits(&self.tag, tag));
        let offered = || place.services.iter().any(|(name, tags)| fits(&self.service, name) && tagged(tags));
        fits(&self.node, place.node) && (self.service.is_none() || offered())
    }
}

/// The newest events, and who waits for more.
#[derive(Debug)]
pub(crate) struct Events {
    listed: Mutex<Listed>,
    fired: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Listed {
    time: u64,
    events: VecDeque<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        Self { listed: Mutex::default(), fired: watch::Sender::new(()) }
    }
}

impl Events {
    /// Lists `event` and wakes who waits.
    pub(crate) fn add(&self, event: Event) {
        {
            let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
            listed.time += 1;
            let event = Event { time: listed.time, ..event };
            if listed.events.len() == MAX_EVENTS {
                listed.events.pop_front();
            }
            listed.events.push_back(Arc::new(event));
        }
        self.fired.send_replace(());
    }

    /// The listed ones of that name, or all; the oldest first.
    pub(crate) fn named(&self, name: Option<&str>) -> Vec<Arc<Event>> {
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.events.iter().filter(|event| name.is_none_or(|name| event.name == name)).cloned().collect()
    }

    /// Changes with each event. Take it first, then list, then wait.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.fired.subscribe()
    }
}

/// The index of a list that ends in `last`: the halves of its id, one over the other. Not in order; clients wait while
/// it is equal.
pub(crate) fn index_of(last: Option<&Event>) -> u64 {
    last.map_or(1, |event| {
        let (upper, lower) = event.id.as_u64_pair();
        upper ^ lower
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(node: &str, service: &str, tag: &str) -> Event {
        let text = |text: &str| text.to_owned();
        Event { node_filter: text(node), service_filter: text(service), tag_filter: text(tag), ..Event::default() }
    }

    #[test]
    fn filters_choose_the_node() {
        let tags = ["v1".to_owned(), "primary".to_owned()];
        let place = Place { node: "host-1", services: vec![("web", &tags), ("db", &[])] };
        for (node, service, tag, takes) in [
            ("", "", "", true),
            ("host-.", "", "", true),
            ("^1", "", "", false),
            ("", "^(web|api)$", "", true),
            ("", "api", "", false),
            ("", "web", "prim", true),
            ("", "db", "v1", false),
            ("x", "web", "v1", false),
        ] {
            let filters = Filters::of(&event(node, service, tag)).unwrap();
            assert_eq!(filters.take(&place), takes, "{node:?} {service:?} {tag:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let why = |event: &Event| Filters::of(event).unwrap_err().to_string();
        assert_eq!(why(&event("", "", "t")), "Cannot provide tag filter without service filter");
        assert!(why(&event("(", "", "")).starts_with("Invalid node filter: "));
        assert!(why(&event("", "a{1000}{1000}{1000}", "")).starts_with("Invalid service filter: "));
        let long = Event { payload: vec![0; MAX_PAYLOAD_BYTES + 1].into(), ..Event::default() };
        assert_eq!(Filters::of(&long).unwrap_err(), InvalidEvent::Payload);
    }

    #[test]
    fn the_newest_are_listed_in_order() {
        let events = Events::default();
        assert_eq!(index_of(events.named(None).last().map(AsRef::as_ref)), 1);
        for n in 0..MAX_EVENTS + 3 {
            events.add(Event { name: format!("e{}", n % 2), ..Event::default() });
        }
        let listed = events.named(None);
        assert_eq!((listed.len(), listed[0].time), (MAX_EVENTS, 4));
        assert!(listed.iter().zip(&listed[1..]).all(|(a, b)| a.time + 1 == b.time));
        assert!(events.named(Some("e1")).iter().all(|event| event.name == "e1"));
        assert!(events.named(Some("other")).is_empty());
    }

    #[test]
    fn the_index_is_one_half_of_the_id_over_the_other() {
        let id = Uuid::parse_str("b54fe110-7af5-cafc-d1fb-afc8ba432b1c").unwrap();
        let last = Event { id, ..Event::default() };
        assert_eq!(index_of(Some(&last)), 0xb54f_e110_7af5_cafc ^ 0xd1fb_afc8_ba43_2b1c);
    }
}
