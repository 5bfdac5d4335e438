//! The token: given, or read from a file and again when that changes.

use std::{fs::File, io::Read, path::Path};

use reqwest::header::HeaderValue;

use super::ClientConfig;
use crate::{Error, fresh::Fresh, pem::FileError, tls::TrustError};

/// No token is longer.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// What gives the token for each call.
pub(super) fn source(config: &ClientConfig) -> Result<Fresh<Option<HeaderValue>, FileError>, Error> {
    let made = match (&config.token, config.token_file.clone()) {
        (Some(token), _) => {
            let header = header(token).ok_or(Error::Token)?;
            Fresh::new(Vec::new(), move || Ok(header.clone()))
        }
        (None, Some(file)) => Fresh::new(vec![file.clone()], move || read(&file)),
        (None, None) => Fresh::new(Vec::new(), || Ok(None)),
    };
    Ok(made.map_err(TrustError::from)?)
}

fn read(path: &Path) -> Result<Option<HeaderValue>, FileError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_TOKEN_BYTES).read_to_string(&mut text));
    read.map_err(|error| FileError::new(path, &error))?;
    header(&text).ok_or_else(|| FileError::new(path, &"it holds something else than one token"))
}

/// What is sent for `text`: nothing if there is nothing in it. `None` if it cannot be sent.
#[allow(clippy::option_option)] // the outer one is a refusal
fn header(text: &str) -> Option<Option<HeaderValue>> {
    let text = text.trim();
    if text.is_empty() {
        return Some(None);
    }
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(Some(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line() {
        let of = |text| header(text).map(|sent| sent.map(|value| value.to_str().unwrap().to_owned()));
        assert_eq!(of(" secret\n"), Some(Some("secret".into())));
        assert_eq!(of("\n"), Some(None));
        for text in ["two\nlines", "nul\0"] {
            assert_eq!(of(text), None, "{text:?}");
        }
    }
}
