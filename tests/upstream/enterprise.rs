//! The enterprise's CA: made by openssl, and answers as it is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use rootbridge_test_support::command::run;
use rootbridge_test_support::openssl::{OpensslCa, ca};

/// What the CA does with the next requests.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// A chain up to the root.
    Issue,
    /// What was issued last, once more.
    Again,
    Pending,
    Refuse(&'static str),
    /// The reference is not known.
    Forget,
    /// No answer at all.
    Down,
    /// Answers with this instead of a chain; `{chain}` is the right one.
    Bad(Bad),
}

/// Answers that must not be used.
#[derive(Debug, Clone, Copy)]
pub enum Bad {
    OtherKey,
    Leaf,
    Expired,
    NotYetValid,
    /// Shorter than certificates of the profiles.
    Short,
    NoCertSign,
    UriConstraint,
    Html,
    Empty,
    Garbage,
    /// A good chain with something in between that cannot be read.
    GarbageBetween,
    Huge,
    WithoutRoot,
    /// Two CAs that certify each other, and no root.
    Loop,
    /// A good path of a hundred certificates.
    Long,
}

pub struct Enterprise {
    directory: PathBuf,
    pub root: OpensslCa,
    pub middle: OpensslCa,
    stranger: OpensslCa,
    state: Mutex<Told>,
}

struct Told {
    behaviour: Behaviour,
    /// Seconds that a certificate lives.
    life: i64,
    issued: String,
    /// In the order in which they came, polls included.
    calls: Vec<Call>,
}

#[derive(Debug, Clone)]
pub struct Call {
    pub reference: Option<String>,
}

/// What the CA says, before a protocol wraps it.
pub enum Said {
    Issued(Vec<u8>),
    Pending(String),
    Refused(String),
    Forgotten,
    Nothing,
}

impl Enterprise {
    pub fn new(directory: PathBuf) -> Arc<Self> {
        fs::create_dir_all(&directory).unwrap();
        let root = OpensslCa::new(&directory, "root");
        let middle = root.intermediate("middle");
        let stranger = OpensslCa::new(&directory, "stranger");
        let told = Told {
            behaviour: Behaviour::Issue,
            life: 90 * 86_400,
            issued: String::new(),
            calls: Vec::new(),
        };
        Arc::new(Self {
            directory,
            root,
            middle,
            stranger,
            state: Mutex::new(told),
        })
    }

    /// A file of the next free name.
    pub fn file(&self, kind: &str) -> PathBuf {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.directory.join(format!("{kind}-{number}"))
    }

    pub fn tell(&self, behaviour: Behaviour) {
        self.state.lock().unwrap().behaviour = behaviour;
    }

    pub fn told(&self) -> Behaviour {
        self.state.lock().unwrap().behaviour.clone()
    }

    pub fn certificates_live(&self, seconds: i64) {
        self.state.lock().unwrap().life = seconds;
    }

    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().unwrap().calls.clone()
    }

    pub fn submissions(&self) -> usize {
        let calls = self.calls().into_iter();
        calls.filter(|call| call.reference.is_none()).count()
    }

    pub fn answer(&self, csr: &str, reference: Option<&str>) -> Said {
        let (behaviour, life) = {
            let mut told = self.state.lock().unwrap();
            told.calls.push(Call {
                reference: reference.map(str::to_owned),
            });
            (told.behaviour.clone(), told.life)
        };
        match behaviour {
            Behaviour::Issue => {
                let chain = self.chain(csr, life);
                self.state.lock().unwrap().issued = chain.clone();
                Said::Issued(chain.into_bytes())
            }
            Behaviour::Again => {
                Said::Issued(self.state.lock().unwrap().issued.clone().into_bytes())
            }
            Behaviour::Pending => Said::Pending("case-17".to_owned()),
            Behaviour::Refuse(reason) => Said::Refused(reason.to_owned()),
            Behaviour::Forget => Said::Forgotten,
            Behaviour::Down => Said::Nothing,
            Behaviour::Bad(bad) => Said::Issued(self.bad(bad, csr, life)),
        }
    }

    /// The new certificate, those above it and the root.
    fn chain(&self, csr: &str, life: i64) -> String {
        let certificate = self.certificate(csr, &ca(Some(0)), 60, life);
        // Out of order, with text between and a stranger, as CAs send it.
        format!(
            "root first\n{}{}-- then\n{certificate}{}",
            self.root.pem(),
            self.stranger.pem(),
            self.middle.pem()
        )
    }

    fn bad(&self, bad: Bad, csr: &str, life: i64) -> Vec<u8> {
        let above = self.middle.pem() + &self.root.pem();
        let good = ca(Some(0));
        let text = match bad {
            Bad::OtherKey => self.middle.pem() + &self.root.pem(),
            Bad::Leaf => {
                let leaf = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature";
                self.certificate(csr, leaf, 60, life) + &above
            }
            Bad::Expired => self.certificate(csr, &good, 7200, -3600) + &above,
            Bad::NotYetValid => self.certificate(csr, &good, -3600, life) + &above,
            Bad::Short => self.certificate(csr, &good, 60, 3600) + &above,
            Bad::NoCertSign => {
                let usage = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,cRLSign";
                self.certificate(csr, usage, 60, life) + &above
            }
            Bad::UriConstraint => {
                let constrained = format!("{good}\nnameConstraints=critical,permitted;URI:shop");
                self.certificate(csr, &constrained, 60, life) + &above
            }
            Bad::Html => "<!doctype html><html><body>Please log in</body></html>".to_owned(),
            Bad::Empty => String::new(),
            Bad::Garbage => {
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()
            }
            Bad::GarbageBetween => {
                let block = "-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----\n";
                self.certificate(csr, &good, 60, life) + block + &above
            }
            Bad::Huge => "x".repeat(50 << 20),
            Bad::WithoutRoot => self.certificate(csr, &good, 60, life) + &self.middle.pem(),
            Bad::Loop => {
                let (first, second) = (Link::new("first"), Link::new("second"));
                first.sign(&self.directory, csr) + &first.by(&second) + &second.by(&first)
            }
            Bad::Long => {
                let mut issuer = Link::new("long root");
                let mut above = issuer.by(&issuer);
                for number in 0..98 {
                    let next = Link::new(&format!("long {number}"));
                    above.push_str(&next.by(&issuer));
                    issuer = next;
                }
                issuer.sign(&self.directory, csr) + &above
            }
        };
        text.into_bytes()
    }

    /// Signed by the intermediate CA, valid from so many seconds ago to so many from now.
    fn certificate(&self, csr: &str, extensions: &str, ago: i64, ahead: i64) -> String {
        let directory = self.file("issue");
        fs::create_dir_all(&directory).unwrap();
        let at = |name: &str| directory.join(name);
        fs::write(at("csr"), csr).unwrap();
        fs::write(at("index"), "").unwrap();
        let ids = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid";
        fs::write(at("ext"), format!("{extensions}\n{ids}\n")).unwrap();
        let config = format!(
            "[ca]\ndefault_ca=it\n[it]\ndatabase={}\nnew_certs_dir={}\npolicy=any\ndefault_md=sha256\n\
             rand_serial=yes\nunique_subject=no\n[any]\norganizationName=optional\ncommonName=supplied\n",
            at("index").display(),
            directory.display()
        );
        fs::write(at("config"), config).unwrap();
        let time = |offset: i64| {
            let at = Timestamp::now() + SignedDuration::from_secs(offset);
            at.strftime("%Y%m%d%H%M%SZ").to_string()
        };
        let mut command = Command::new("openssl");
        command.args(["ca", "-batch", "-notext", "-config"]);
        command.arg(at("config")).arg("-in").arg(at("csr"));
        command.arg("-cert").arg(self.middle.pem_file());
        command.arg("-keyfile").arg(self.middle.key_file());
        command.arg("-extfile").arg(at("ext"));
        command.args(["-startdate", &time(-ago), "-enddate", &time(ahead)]);
        run(command.arg("-out").arg(at("pem")));
        fs::read_to_string(at("pem")).unwrap()
    }

    /// What [`Enterprise::answer`] says, for a handler.
    pub async fn ask(self: Arc<Self>, csr: String, reference: Option<String>) -> Said {
        let said = tokio::task::spawn_blocking(move || self.answer(&csr, reference.as_deref()));
        said.await.unwrap()
    }
}

/// A CA that can be certified by another one.
struct Link {
    key: KeyPair,
    params: CertificateParams,
}

impl Link {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        Self { key, params }
    }

    /// Its certificate, in PEM.
    fn by(&self, issuer: &Self) -> String {
        let issuer = Issuer::from_params(&issuer.params, &issuer.key);
        self.params.signed_by(&self.key, &issuer).unwrap().pem()
    }

    /// An issuing CA's certificate below it, in PEM.
    fn sign(&self, directory: &Path, csr: &str) -> String {
        let at = |name: &str| directory.join(name);
        fs::write(at("link.pem"), self.by(self)).unwrap();
        fs::write(at("link.key"), self.key.serialize_pem()).unwrap();
        fs::write(at("link.csr"), csr).unwrap();
        let ids = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid";
        fs::write(at("link.ext"), format!("{}\n{ids}\n", ca(Some(0)))).unwrap();
        let mut command = Command::new("openssl");
        command.args(["x509", "-req", "-days", "90", "-in"]);
        command.arg(at("link.csr")).arg("-CA").arg(at("link.pem"));
        command.arg("-CAkey").arg(at("link.key"));
        run(command.arg("-extfile").arg(at("link.ext")))
    }
}
