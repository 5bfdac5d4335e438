//! Certificates and keys as files: read whole, and named where they are wrong.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {why}", path.display())]
pub struct FileError {
    path: PathBuf,
    why: String,
}

impl FileError {
    pub(crate) fn new(path: &Path, why: &dyn ToString) -> Self {
        Self { path: path.into(), why: why.to_string() }
    }
}

/// All certificates of files, and of the files in directories, as those of authorities.
///
/// # Errors
/// [`FileError`]: no file, or not one certificate in it, or one that cannot be read.
pub fn authorities(paths: &[PathBuf]) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for path in paths {
        for file in files(path)? {
            for certificate in certificates(&file)? {
                roots.add(certificate).map_err(|error| FileError::new(&file, &error))?;
            }
        }
    }
    Ok(roots)
}

/// A directory's files; a file itself.
fn files(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    if !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let listed = fs::read_dir(path).and_then(|all| all.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
    let mut files = listed.map_err(|error| FileError::new(path, &error))?;
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

/// The certificates of a file, in order.
///
/// # Errors
/// [`FileError`] as of [`authorities`].
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(FileError::new(path, &"there is no certificate (PEM) in it")),
        other => other.map_err(|error| FileError::new(path, &error)),
    }
}

/// The first private key of a file.
///
/// # Errors
/// [`FileError`] if there is none.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| FileError::new(path, &error))
}
