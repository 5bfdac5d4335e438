//! Finds and reads configuration files.

#[cfg(any(test, fuzzing))]
pub mod fuzzed;

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use kvstore_client::types::ServiceRegistration;

use super::{
    Fault, Layer, definitions,
    document::{Document, Format, Section},
    keys,
};

/// No configuration is longer; a device or a database given by mistake is.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// A configuration as text, as Consul's image takes it; read after all files.
const LOCAL_CONFIG: &str = "CONSUL_LOCAL_CONFIG";

/// What `paths` say together, later over earlier. A directory stands for its files in order of their names.
pub(super) fn read(paths: &[PathBuf], faults: &mut Vec<Fault>) -> Layer {
    let mut layer = Layer::default();
    for path in paths {
        for file in expand(path, faults) {
            match read_file(&file) {
                Ok(document) => read_document(&document, &mut layer, faults),
                Err(fault) => faults.push(fault),
            }
        }
    }
    if let Ok(text) = std::env::var(LOCAL_CONFIG)
        && !text.trim().is_empty()
    {
        let format = if text.trim_start().starts_with('{') { Format::Json } else { Format::Yaml };
        match Document::parse(&format!("${LOCAL_CONFIG}"), text, format) {
            Ok(document) => read_document(&document, &mut layer, faults),
            Err(fault) => faults.push(fault),
        }
    }
    layer
}

/// The services that `paths` define: files with `service` or `services`.
pub(super) fn read_services(paths: &[PathBuf], faults: &mut Vec<Fault>) -> Vec<ServiceRegistration> {
    let mut services = Vec::new();
    for file in paths.iter().flat_map(|path| expand(path, faults)).collect::<Vec<_>>() {
        match read_file(&file) {
            Ok(document) => take(&document, faults, |top| definitions::read(top, &mut services)),
            Err(fault) => faults.push(fault),
        }
    }
    services
}

fn read_document(document: &Document, layer: &mut Layer, faults: &mut Vec<Fault>) {
    take(document, faults, |top| keys::read(top, layer));
}

/// Lets `read` take the keys of `document` and puts what is wrong in the order of lines.
fn take(document: &Document, faults: &mut Vec<Fault>, read: impl FnOnce(Section<'_>)) {
    let mut own = Vec::new();
    read(document.section(&mut own));
    own.sort_by_key(|fault: &Fault| fault.place.rsplit_once(':').and_then(|(_, line)| line.parse::<usize>().ok()));
    faults.append(&mut own);
}

fn fault(path: &Path, why: impl Into<String>) -> Fault {
    Fault { place: path.display().to_string(), key: String::new(), why: why.into() }
}

/// The files of a directory that are configuration; a file itself.
fn expand(path: &Path, faults: &mut Vec<Fault>) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.into()];
    }
    let listed = fs::read_dir(path).and_then(|entries| entries.map(|e| Ok(e?.path())).collect::<Result<Vec<_>, _>>());
    let mut files = listed.unwrap_or_else(|error| {
        faults.push(fault(path, format!("cannot list it: {error}")));
        Vec::new()
    });
    files.retain(|file| matches!(extension(file), "json" | "yaml" | "yml" | "hcl") && !file.is_dir());
    files.sort();
    files
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|e| e.to_str()).unwrap_or_default()
}

fn read_file(path: &Path) -> Result<Document, Fault> {
    let format = match extension(path) {
        "json" => Format::Json,
        "hcl" => Format::Hcl,
        _ => Format::Yaml,
    };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|e| fault(path, format!("cannot open it: {e}")))?;
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
    read.map_err(|e| fault(path, format!("cannot read it: {e}")))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(fault(path, format!("it is over {MAX_FILE_BYTES} bytes")));
    }
    Document::parse(&path.display().to_string(), text, format)
}
