//! Certificate chains with their keys: read from PEM files, and chosen by the name that a client asks for.
use super::{ocsp, provider};
use lb_core::life::Life;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Endings of files that are read in a directory.
const ENDINGS: [&str; 3] = ["pem", "crt", "cer"];
/// One chain.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) file: PathBuf,
    /// The DNS names that it is for, in lower case.
    pub(crate) names: Vec<String>,
    pub(crate) life: Life,
    key: Arc<CertifiedKey>,
    stapled: Option<Stapled>,
}

/// A chain with what its CA says of it.
#[derive(Debug)]
struct Stapled {
    life: Life,
    key: Arc<CertifiedKey>,
}

impl Chain {
    fn new(file: &Path, key: CertifiedKey) -> Result<Self, String> {
        let unusable = |why: String| format!("{} cannot be used: {why}", file.display());
        let (names, life) = describe(key.cert.first().map(AsRef::as_ref).unwrap_or_default()).map_err(unusable)?;
        let stapled = ocsp::read(file, &key.cert)?.map(|staple| {
            let key = CertifiedKey { ocsp: Some(staple.der), ..key.clone() };
            Stapled { life: staple.life, key: Arc::new(key) }
        });
        Ok(Self { file: file.to_owned(), names, life, key: Arc::new(key), stapled })
    }

    /// From when until when its CA says that it is good; `None`: nothing is at hand.
    pub(crate) fn stapled(&self) -> Option<Life> {
        self.stapled.as_ref().map(|stapled| stapled.life)
    }

    /// What a client is shown: what the CA said only while it holds.
    fn key(&self) -> Arc<CertifiedKey> {
        let stapled = self.stapled.as_ref().filter(|stapled| stapled.life.holds(SystemTime::now()));
        stapled.map_or(&self.key, |stapled| &stapled.key).clone()
    }
}

/// What a file holds.
enum Pem {
    Chain(Chain),
    /// PEM, but no certificate.
    Other,
    Nothing,
}

/// All chains of a listener.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) chains: Vec<Chain>,
    /// Exact names, and wildcards by what stands behind `*.`: those chains, the one to be tried first first.
    exact: HashMap<String, Vec<usize>>,
    wildcard: HashMap<String, Vec<usize>>,
    strict: bool,
}

impl Certificates {
    /// Reads the files and directories.
    ///
    /// # Errors
    /// Every file that cannot be used, with the reason.
    pub(crate) fn load(certs: &[PathBuf], keys: &[PathBuf], strict: bool) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let keys: Vec<_> = keys
            .iter()
            .filter_map(|file| match private_key(file) {
                Ok(Some(key)) => Some(key),
                Ok(None) => {
                    errors.push(format!("key: {} holds no PEM private key", file.display()));
                    None
                }
                Err(why) => {
                    errors.push(format!("key: {why}"));
                    None
                }
            })
            .collect();
        let mut chains: Vec<Chain> = Vec::new();
        for path in certs {
            match files(path) {
                Ok(files) => {
                    for file in files {
                        match chain(&file, &keys) {
                            Ok(Pem::Chain(chain)) => chains.push(chain),
                            // Beside certificates a directory may hold their keys, but nothing half written: its names would
                            // be gone in silence.
                            Ok(Pem::Other) if file != *path => {}
                            Ok(_) => errors.push(format!("cert: {} holds no PEM certificate", file.display())),
                            Err(why) => errors.push(format!("cert: {why}")),
                        }
                    }
                }
                Err(why) => errors.push(format!("cert: {why}")),
            }
        }
        if chains.is_empty() && errors.is_empty() {
            errors.push(format!(
                "cert: no certificate in {}",
                certs.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
            ));
        }
        if errors.is_empty() { Ok(Self::new(chains, strict)) } else { Err(errors) }
    }

    fn new(chains: Vec<Chain>, strict: bool) -> Self {
        let (mut exact, mut wildcard) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (i, chain) in chains.iter().enumerate() {
            for name in &chain.names {
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_default().push(i),
                    None => exact.entry(name.clone()).or_default().push(i),
                }
            }
        }
        // Of two for one name the cheaper one to sign with is tried first.
        for candidates in exact.values_mut().chain(wildcard.values_mut()) {
            candidates.sort_by_key(|i| chains[*i].key.key.algorithm() == SignatureAlgorithm::RSA);
        }
        Self { chains, exact, wildcard, strict }
    }

    /// The chains for a name, the one to be tried first first.
    fn candidates(&self, name: &str) -> Option<&[usize]> {
        let lower;
        let name = match name.bytes().any(|b| b.is_ascii_uppercase()) {
            true => {
                lower = name.to_ascii_lowercase();
                &lower
            }
            false => name,
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let found = self.exact.get(name).or_else(|| self.wildcard.get(name.split_once('.')?.1));
        found.map(Vec::as_slice)
    }

    /// Whether a request for `host` may come over a handshake for `sni`: one name, or one certificate.
    pub(crate) fn belong_together(&self, sni: Option<&str>, host: &str) -> bool {
        let first = |name| self.candidates(name).and_then(<[usize]>::first).copied();
        let asked = match sni {
            Some(sni) if sni.eq_ignore_ascii_case(host) => return true,
            Some(sni) => first(sni),
            None => None,
        };
        // Who asked for nothing, or for something strange, saw the first one.
        asked.unwrap_or(0) == first(host).unwrap_or(0)
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let named = name.and_then(|name| self.candidates(name));
        let candidates = match named {
            Some(candidates) => candidates,
            None if self.strict => return None,
            None => &[0],
        };
        let fits = |i: &&usize| self.chains[**i].key.key.choose_scheme(schemes).is_some();
        let chosen = candidates.iter().find(fits).or(candidates.first())?;
        Some(self.chains[*chosen].key())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

/// The file itself, or those of a directory, in order.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    let unread = |e: std::io::Error| format!("{} cannot be read: {e}", path.display());
    if !std::fs::metadata(path).map_err(unread)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unread)? {
        let file = entry.map_err(unread)?.path();
        let ending = file.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        let hidden = file.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if !hidden && ending.is_some_and(|e| ENDINGS.contains(&e.as_str())) && file.is_file() {
            found.push(file);
        }
    }
    found.sort();
    Ok(found)
}

/// All that a configuration's certificates are made of, directories taken apart: what a change is looked for in.
pub(crate) fn every_file(certs: &[PathBuf], keys: &[PathBuf]) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = keys.to_vec();
    for path in certs {
        all.push(path.clone());
        for file in files(path).unwrap_or_default() {
            all.push(beside(&file));
            all.push(ocsp::beside(&file));
            all.push(file);
        }
    }
    all
}

fn beside(file: &Path) -> PathBuf {
    file.with_extension("key")
}

fn chain(file: &Path, keys: &[PrivateKeyDer<'static>]) -> Result<Pem, String> {
    let unusable = |why: &dyn std::fmt::Display| format!("{} cannot be used: {why}", file.display());
    let pem = read(file)?;
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certs: Vec<CertificateDer<'static>> = certs.map_err(|e| unusable(&broken(&e)))?;
    if certs.is_empty() {
        return Ok(if memchr::memmem::find(&pem, b"-----BEGIN ").is_some() { Pem::Other } else { Pem::Nothing });
    }
    let near = match key_of(&pem).map_err(|e| unusable(&e))? {
        Some(key) => Some(key),
        None if beside(file).is_file() => private_key(&beside(file))?,
        None => None,
    };
    // A key that is there must fit; of a list one must.
    let (tried, whose): (&[_], _) = match &near {
        Some(key) => (std::slice::from_ref(key), "its private key does not fit it"),
        None => (keys, "none of the private keys in `key` fits it"),
    };
    if tried.is_empty() {
        let beside = beside(file);
        return Err(unusable(&format!(
            "it has no private key: put the key into the same file, into {}, or name its file in `key`",
            beside.display()
        )));
    }
    let mut why = whose.to_owned();
    for key in tried {
        match certified(&certs, key) {
            Ok(key) => return Chain::new(file, key).map(Pem::Chain),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                if certs.iter().skip(1).any(|c| certified(std::slice::from_ref(c), key).is_ok()) {
                    why = "the server's own certificate must come first in it, before those that sign it".into();
                }
            }
            Err(Error::General(_)) => {
                why = "its private key is none that is spoken here: take ECDSA (P-256, P-384, P-521), Ed25519, or RSA of \
                       2048 bits or more"
                    .into();
            }
            Err(e) => why = format!("{whose}: {e}"),
        }
    }
    Err(unusable(&why))
}

fn certified(certs: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>) -> Result<CertifiedKey, Error> {
    let key = provider().key_provider.load_private_key(key.clone_key())?;
    let certified = CertifiedKey::new(certs.to_vec(), key);
    match certified.keys_match() {
        // A key that cannot say its public half is believed.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(e) => Err(e),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|e| format!("{} cannot be read: {e}", file.display()))
}

fn private_key(file: &Path) -> Result<Option<PrivateKeyDer<'static>>, String> {
    key_of(&read(file)?).map_err(|e| format!("{} cannot be used: {e}", file.display()))
}

fn key_of(pem: &[u8]) -> Result<Option<PrivateKeyDer<'static>>, String> {
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(Some(key)),
        Err(rustls_pki_types::pem::Error::NoItemsFound) if memchr::memmem::find(pem, b"ENCRYPTED").is_some() => {
            Err("its private key is encrypted: write it without a passphrase, readable by lb alone".into())
        }
        Err(rustls_pki_types::pem::Error::NoItemsFound) => Ok(None),
        Err(e) => Err(broken(&e)),
    }
}

/// What is wrong with a PEM file.
fn broken(error: &rustls_pki_types::pem::Error) -> String {
    use rustls_pki_types::pem::Error;
    match error {
        Error::MissingSectionEnd { .. } => "it ends in the middle of a PEM block".into(),
        Error::IllegalSectionStart { .. } => "one of its PEM blocks has no right first line".into(),
        Error::Base64Decode(_) => "one of its PEM blocks is no Base64".into(),
        error => error.to_string(),
    }
}

/// The names of a certificate, and its life.
pub(crate) fn describe(certificate: &[u8]) -> Result<(Vec<String>, Life), String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|e| e.to_string())?;
    let names = dns_names(&parsed);
    let validity = parsed.validity();
    Ok((names, Life { from: validity.not_before.timestamp(), until: validity.not_after.timestamp() }))
}

/// DNS names in lower case; of a certificate from before there were any, its common name.
pub(crate) fn dns_names(parsed: &x509_parser::certificate::X509Certificate<'_>) -> Vec<String> {
    use x509_parser::extensions::GeneralName;
    let lower = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
    if let Ok(Some(names)) = parsed.subject_alternative_name() {
        let dns = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some(lower(name)),
            _ => None,
        };
        return names.value.general_names.iter().filter_map(dns).collect();
    }
    parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok()).map(lower).collect()
}

#[cfg(test)]
pub(super) mod tests;
