//! Certificates from a file as CAs, browsers and colleagues supply them: PEM in any encoding of text,
//! DER, PKCS#7, in any order and with repetitions.

mod element;
mod format;
mod pkcs7;
mod text;

use std::collections::HashSet;

use super::cert::{CertError, Certificate};
use super::pem::{self, PemError};

pub use format::Format;

/// The most certificates in a file or a trust bundle. One limit for what is read and what is
/// published, so that every bundle that a server publishes can be read.
pub const MAX_CERTIFICATES: usize = 500;
/// The longest file of certificates, in bytes.
pub const MAX_FILE_BYTES: usize = 2 << 20;

/// Reads the certificates of a file, each once, in the file's order.
///
/// # Errors
/// [`FileError`], which names the format of a file that holds something else, and the certificate
/// that cannot be read.
pub fn read_certificates(file: &[u8]) -> Result<Vec<Certificate>, FileError> {
    let contents = read(file)?;
    if let Some((place, format)) = contents.others.into_iter().next() {
        return Err(FileError::Other { place, format });
    }
    contents
        .certificates
        .into_iter()
        .map(|(place, der)| {
            Certificate::parse(der).map_err(|cause| FileError::Certificate {
                place,
                cause: Box::new(cause),
            })
        })
        .collect()
}

/// Reads the certificates of a file, each once, in the file's order, in DER. Keys and parameters
/// beside them are ignored: a server's certificate and key often share a file.
///
/// # Errors
/// [`FileError`], which names the format of a file that holds no certificate.
pub fn read_certificate_ders(file: &[u8]) -> Result<Vec<Vec<u8>>, FileError> {
    let contents = read(file)?;
    let mut others = contents.others.into_iter();
    match (contents.certificates.is_empty(), others.next()) {
        (true, Some((place, format))) => Err(FileError::Other { place, format }),
        _ => Ok(contents
            .certificates
            .into_iter()
            .map(|(_, der)| der)
            .collect()),
    }
}

/// What a file that should hold a private key holds instead of a key without a passphrase.
pub fn private_key_problem(file: &[u8]) -> Option<FileError> {
    match read(file) {
        Ok(contents) => {
            let has_certificates = !contents.certificates.is_empty();
            let other = contents.others.first().map(|(_, format)| *format);
            let mut others = contents.others.into_iter();
            match others.find(|(_, format)| format.is_private_key()) {
                Some((place, format @ Format::EncryptedPrivateKey)) => {
                    Some(FileError::Other { place, format })
                }
                Some(_) => None,
                None => Some(FileError::NoKey {
                    format: other.filter(|_| !has_certificates),
                }),
            }
        }
        Err(FileError::Other { format, .. }) => Some(FileError::NoKey {
            format: Some(format),
        }),
        Err(error) => Some(error),
    }
}

/// The position of a certificate in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Counted from one.
    pub number: usize,
    /// In PEM.
    pub line: Option<usize>,
}

#[derive(Default)]
struct Contents {
    certificates: Vec<(Place, Vec<u8>)>,
    /// What else is in the file, with its place.
    others: Vec<(Option<usize>, Format)>,
    seen: HashSet<Vec<u8>>,
    found: usize,
}

impl Contents {
    fn add(&mut self, line: Option<usize>, der: &[u8]) -> Result<(), FileError> {
        self.found += 1;
        if !self.seen.insert(der.to_vec()) {
            return Ok(());
        }
        if self.certificates.len() == MAX_CERTIFICATES {
            return Err(FileError::TooMany);
        }
        let place = Place {
            number: self.found,
            line,
        };
        self.certificates.push((place, der.to_vec()));
        Ok(())
    }

    /// Adds what one DER (or, for PKCS#7, BER) value holds.
    fn add_value(&mut self, line: Option<usize>, value: &[u8]) -> Result<(), FileError> {
        match Format::of_value(value) {
            None => self.add(line, value),
            Some(Format::SignedData) => {
                let certificates = pkcs7::certificates(value)
                    .map_err(|why| FileError::Pkcs7 { why: why.into() })?;
                if certificates.is_empty() {
                    return Err(FileError::Pkcs7 {
                        why: "it holds no certificate".into(),
                    });
                }
                certificates
                    .into_iter()
                    .try_for_each(|der| self.add(line, der))
            }
            Some(format) => {
                self.others.push((line, format));
                Ok(())
            }
        }
    }
}

fn read(file: &[u8]) -> Result<Contents, FileError> {
    if file.len() > MAX_FILE_BYTES {
        return Err(FileError::TooLarge { bytes: file.len() });
    }
    let mut contents = Contents::default();
    let text = text::decode(file);
    if let Some(format) = Format::of_escaped(&text) {
        return Err(FileError::Other {
            place: None,
            format,
        });
    }
    if pem::has_block(&text) {
        for block in pem::blocks(&text, usize::MAX)?.blocks {
            match Format::of_block(&block) {
                // The label of a certificate is also written above PKCS#7 (by ADCS).
                None => contents.add_value(Some(block.line), &block.der()?)?,
                Some(format) => contents.others.push((Some(block.line), format)),
            }
        }
    } else {
        let mut rest = file;
        while let Some((value, after)) = element::sequence(rest) {
            contents.add_value(None, value)?;
            rest = after.trim_ascii_start();
        }
        if !rest.is_empty() || contents.found + contents.others.len() == 0 {
            let format = match contents.found {
                0 => Format::of_text(&text),
                _ => Format::Binary,
            };
            return Err(FileError::Other {
                place: None,
                format,
            });
        }
    }
    Ok(contents)
}

/// Why a file's certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("the file has {bytes} bytes; at most {MAX_FILE_BYTES} are read")]
    TooLarge { bytes: usize },
    #[error("the file has more than {MAX_CERTIFICATES} certificates")]
    TooMany,
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("{}the file holds {format}{}", at_line(*place), advice(*format))]
    Other {
        /// The line of a PEM block, if it is one.
        place: Option<usize>,
        format: Format,
    },
    #[error(
        "the PKCS#7 (.p7b) cannot be read: {why}; to convert it: \
         openssl pkcs7 -print_certs -in FILE -out certificates.pem (with -inform DER if it is not PEM)"
    )]
    Pkcs7 { why: String },
    #[error("certificate {}: {cause}", numbered(place))]
    Certificate { place: Place, cause: Box<CertError> },
    #[error(
        "the file holds {} and no private key{}",
        format.map_or("certificates".to_owned(), |format| format.to_string()),
        match format {
            Some(Format::Pkcs12) => "; to take it: openssl pkcs12 -in FILE -nocerts -nodes -out key.pem",
            _ => "",
        }
    )]
    NoKey {
        /// `None` for certificates.
        format: Option<Format>,
    },
}

fn at_line(line: Option<usize>) -> String {
    line.map_or(String::new(), |line| format!("line {line}: "))
}

fn advice(format: Format) -> String {
    format
        .advice()
        .map_or(String::new(), |it| format!("; {it}"))
}

fn numbered(place: &Place) -> String {
    match place.line {
        Some(line) => format!("{} (line {line})", place.number),
        None => place.number.to_string(),
    }
}
