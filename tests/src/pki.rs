//! A certificate authority of the tests' own, and what it signs, as files.
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// See the module.
pub struct Pki {
    dir: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    /// A new one; its certificate is `ca.pem`.
    ///
    /// # Panics
    /// The disk is full.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "Test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
        let pki = Self { dir: TempDir::new().expect("a directory"), ca };
        pki.write("ca.pem", &pki.ca.pem());
        pki
    }

    /// A path in its directory.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// The same as text.
    pub fn text(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    /// The authority's private key, as PEM.
    pub fn key(&self) -> String {
        self.ca.key().serialize_pem()
    }

    /// Writes a file, whole at once.
    ///
    /// # Panics
    /// The disk is full.
    pub fn write(&self, file: &str, text: &str) {
        let new = self.path(&format!("{file}.new"));
        std::fs::create_dir_all(new.parent().expect("a directory")).expect("made");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(new, self.path(file)).expect("renamed");
    }

    /// Signs a certificate for these names, as `file`, its key in it.
    pub fn issue(&self, file: &str, names: &[&str]) {
        self.issue_with(file, names, |_| {});
    }

    /// As [`Self::issue`], with more said about it.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn issue_with(&self, file: &str, names: &[&str], more: impl FnOnce(&mut CertificateParams)) {
        let mut params =
            CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).expect("names");
        params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("nobody"));
        more(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.ca).expect("signed");
        self.write(file, &(cert.pem() + &key.serialize_pem()));
    }

    /// A list of what is revoked, as `file`.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn revoke(&self, file: &str, serials: &[u64]) {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        self.write(file, &list.signed_by(&self.ca).expect("signed").pem().expect("PEM"));
    }

    /// What curl prints, and whether it was content: it trusts this authority alone.
    ///
    /// # Panics
    /// There is no curl.
    pub fn curl(&self, args: &[&str]) -> (bool, String) {
        let output = Command::new("curl")
            .args(["-sS", "-m", "10", "-i", "--http1.1", "--cacert", &self.text("ca.pem")])
            .args(args)
            .output()
            .expect("curl, installed by tests/run");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}
