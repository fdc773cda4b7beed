//! The RBAC permissions that the controllers' account needs in a cluster.

use super::Config;
use crate::cluster::Permission;

const GROUP: &str = "certificates.k8s.io";
const READ: [&str; 3] = ["get", "list", "watch"];

impl Config {
    pub fn permissions(&self, cluster: &str) -> Vec<Permission> {
        let mut permissions = Vec::new();
        let here = |clusters: &[String]| clusters.iter().any(|each| each == cluster);
        for signer in self.csr_signers.iter().filter(|each| here(&each.clusters)) {
            let why = format!("csr_signers.{}", signer.name);
            let kinds = (
                "certificatesigningrequests",
                "certificatesigningrequests/status",
            );
            permissions.extend(signing(kinds, &signer.signer_name, &why));
        }
        for signer in self.pod_signers.iter().filter(|each| here(&each.clusters)) {
            let why = format!("pod_signers.{}", signer.name);
            let kinds = ("podcertificaterequests", "podcertificaterequests/status");
            permissions.extend(signing(kinds, &signer.signer_name, &why));
        }
        for istiod in self
            .istiod_tls
            .iter()
            .filter(|each| each.cluster == cluster)
        {
            let why = format!("istiod_tls.{}", istiod.name);
            let secret =
                |verb| Permission::new(verb, "", "secrets", why.clone()).within(&istiod.namespace);
            // With server-side apply, a resourceName also restricts `create`.
            for verb in ["create", "get", "list", "watch", "patch"] {
                permissions.push(secret(verb).named(&istiod.secret));
            }
        }
        let issuers = self.linkerd_issuers.iter();
        for issuer in issuers.filter(|each| each.cluster == cluster) {
            let why = format!("linkerd_issuers.{}", issuer.name);
            let within = |verb, resource| {
                Permission::new(verb, "", resource, why.clone()).within(&issuer.control_namespace)
            };
            for verb in ["create", "get", "list", "watch", "patch"] {
                permissions.push(within(verb, "secrets").named(&issuer.secret));
            }
            // Whether the controller accepted the issuer; event names are generated.
            permissions.push(within("list", "events"));
        }
        permissions
    }
}

fn signing(
    (kind, status): (&'static str, &'static str),
    signer: &str,
    why: &str,
) -> impl Iterator<Item = Permission> {
    let sign = Permission::new("sign", GROUP, "signers", why).named(signer);
    let read = READ.map(|verb| Permission::new(verb, GROUP, kind, why));
    let answer = Permission::new("update", GROUP, status, why);
    read.into_iter().chain([answer, sign])
}
