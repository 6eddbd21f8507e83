//! The certificate method: a chain from the signer to a root that is trusted.
//!
//! Paths are built and checked by `rustls-webpki`; here stands what is special
//! to signed models. A bundle carries no time, so the chain is judged at the
//! moment when the signer's certificate began, as the signing tool does: it
//! outlives the certificate, and only taking the root away ends the belief.

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage as Purpose, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::db::rfc4519::CN;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, KeyUsage, NameConstraints, SubjectAltName};

use super::curve::{ALGORITHMS, PublicKey, sha256_hex};
use super::{SignedError, SignerId};
use crate::audit::Text;

/// id-kp-codeSigning of RFC 5280, as the value of an OBJECT IDENTIFIER.
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];

/// A certificate that was found to lead to a trusted root.
pub(super) struct Signer {
    /// The signer's key.
    pub(super) key: PublicKey,
    /// Who it is, under which root.
    pub(super) id: SignerId,
}

/// Reads the roots in a PEM text; at least one.
pub(super) fn roots(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SignedError> {
    let refused = |reason: &str| SignedError::Trust {
        reason: reason.to_owned(),
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| refused("a certificate in PEM form is damaged"))?;
    if found.is_empty() {
        return Err(refused("no certificate in PEM form (BEGIN CERTIFICATE)"));
    }
    for root in &found {
        anchor_from_trusted_cert(root)
            .map_err(|_| refused("a certificate cannot be read as a root"))?;
    }
    Ok(found)
}

/// Follows `chain`, the signer's certificate first, to one of `roots`.
pub(super) fn follow(
    chain: &[Vec<u8>],
    roots: &[CertificateDer<'static>],
    identity: Option<&str>,
) -> Result<Signer, SignedError> {
    let mut chain = chain.iter().map(|der| CertificateDer::from(der.as_slice()));
    let leaf = chain.next().ok_or_else(|| refused("there is none"))?;
    let others: Vec<_> = chain.collect();
    let parsed = Certificate::from_der(&leaf).map_err(|_| refused("it cannot be read"))?;
    let began = parsed.tbs_certificate().validity().not_before;
    let time = UnixTime::since_unix_epoch(began.to_unix_duration());
    let anchors = roots.iter().map(anchor_from_trusted_cert);
    let anchors: Vec<_> = anchors.collect::<Result<_, _>>().map_err(explain)?;
    let end = EndEntityCert::try_from(&leaf).map_err(explain)?;
    let purpose = Purpose::required_if_present(CODE_SIGNING);
    let path = end
        .verify_for_usage(ALGORITHMS, &anchors, &others, time, purpose, None, None)
        .map_err(explain)?;
    may_sign(&parsed)?;
    let at = anchors.iter().position(|anchor| anchor == path.anchor());
    let root = at.and_then(|at| roots.get(at));
    let root = root.ok_or_else(|| refused("its root is not one of ours"))?;
    let mut between = path.intermediate_certificates();
    let limited = path.anchor().name_constraints.is_some()
        || between.any(|issuer| limits_names(&issuer.der()));
    let name = name_of(&names_of(&parsed, limited)?, identity)?;
    let key = parsed.tbs_certificate().subject_public_key_info();
    Ok(Signer {
        key: PublicKey::from_der(&der_of(key)?)?,
        id: SignerId::certificate(&sha256_hex(root), &name)?,
    })
}

fn refused(reason: &str) -> SignedError {
    SignedError::Certificate {
        reason: reason.to_owned(),
    }
}

fn explain(error: webpki::Error) -> SignedError {
    use webpki::Error;
    match error {
        Error::UnknownIssuer => refused("no trusted root issued it"),
        Error::InvalidSignatureForPublicKey => {
            refused("a signature in its chain is wrong, or its root only has the name of ours")
        }
        Error::CaUsedAsEndEntity => refused("it is an authority's, which signs certificates only"),
        Error::RequiredEkuNotFoundContext(_) => refused("its key is not meant for signing code"),
        Error::CertExpired { .. } | Error::CertNotValidYet { .. } => {
            refused("one that vouches for it was not valid when it began")
        }
        #[expect(deprecated, reason = "older paths of the same crate still return it")]
        Error::UnsupportedSignatureAlgorithm
        | Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => SignedError::Unsupported {
            what: "a certificate that is signed with something else than ECDSA and SHA-2",
            instead: "have it issued under an EC key on P-256, P-384 or P-521",
        },
        other => refused(&other.to_string()),
    }
}

fn der_of(value: &impl x509_cert::der::Encode) -> Result<Vec<u8>, SignedError> {
    value.to_der().map_err(|_| refused("it cannot be read"))
}

/// The certificate must say that its key signs: documents or code.
fn may_sign(certificate: &Certificate) -> Result<(), SignedError> {
    let tbs = certificate.tbs_certificate();
    let damaged = |_| refused("its extensions cannot be read");
    let usage = tbs.get_extension::<KeyUsage>().map_err(damaged)?;
    if usage.is_some_and(|(_, usage)| usage.digital_signature()) {
        return Ok(());
    }
    let purposes = tbs.get_extension::<ExtendedKeyUsage>().map_err(damaged)?;
    let signs_code = |(_, list): &(bool, ExtendedKeyUsage)| {
        list.0.iter().any(|one| one.as_bytes() == CODE_SIGNING)
    };
    if purposes.as_ref().is_some_and(signs_code) {
        return Ok(());
    }
    Err(refused("its key is not meant for signatures"))
}

/// Whether an issuer may certify some names only.
fn limits_names(issuer: &CertificateDer<'_>) -> bool {
    let Ok(issuer) = Certificate::from_der(issuer) else {
        return true;
    };
    let limits = issuer.tbs_certificate().get_extension::<NameConstraints>();
    !matches!(limits, Ok(None))
}

/// Who the certificate is for: the asked-for name if it has it, else the first.
fn name_of(names: &[String], wanted: Option<&str>) -> Result<String, SignedError> {
    let first = names.first().ok_or_else(|| {
        refused("it names nobody: where names are limited only alternative names count")
    })?;
    let wanted = wanted.unwrap_or(first);
    if names.iter().any(|name| name == wanted) {
        return Ok(wanted.to_owned());
    }
    let found = names.iter().map(|name| Text::new(name).to_string());
    Err(SignedError::Identity {
        found: found.collect::<Vec<_>>().join(", "),
    })
}

/// Mail addresses, URIs and DNS names, or else common names. Limits on names bind
/// the former only, so the latter count neither beside them nor where names are
/// `limited`: whoever is free to choose a common name would be anybody.
fn names_of(certificate: &Certificate, limited: bool) -> Result<Vec<String>, SignedError> {
    let tbs = certificate.tbs_certificate();
    let alternatives = tbs
        .get_extension::<SubjectAltName>()
        .map_err(|_| refused("its names cannot be read"))?;
    let alternatives = alternatives.map_or(Vec::new(), |(_, names)| names.0);
    if let Some(names) = among(&alternatives) {
        return Ok(names);
    }
    if limited {
        return Ok(Vec::new());
    }
    let common = tbs.subject().iter().filter(|part| part.oid == CN);
    // Strings in a name are of five kinds; the usual two are read.
    let texts = common.filter_map(|part| std::str::from_utf8(part.value.value()).ok());
    Ok(texts.map(str::to_owned).collect())
}

/// The mail addresses, URIs and DNS names; `None` where there is none, whatever else there is.
/// Each counts only when it looks like its kind, for limits bind one kind each: what is
/// written as a mail address is never a DNS name that the issuer may not certify.
fn among(alternatives: &[GeneralName]) -> Option<Vec<String>> {
    let names = alternatives.iter().filter_map(|name| match name {
        GeneralName::Rfc822Name(text) => Some((Kind::Mail, text.as_str())),
        GeneralName::DnsName(text) => Some((Kind::Dns, text.as_str())),
        GeneralName::UniformResourceIdentifier(text) => Some((Kind::Uri, text.as_str())),
        _ => None,
    });
    let names: Vec<_> = names.collect();
    let genuine = names.iter().filter(|(kind, text)| *kind == kind_of(text));
    let genuine = genuine.map(|(_, text)| (*text).to_owned()).collect();
    (!names.is_empty()).then_some(genuine)
}

/// What a name is by its looks.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Mail,
    Dns,
    Uri,
}

fn kind_of(name: &str) -> Kind {
    match (name.contains(':'), name.contains('@')) {
        (true, _) => Kind::Uri,
        (false, true) => Kind::Mail,
        (false, false) => Kind::Dns,
    }
}

#[cfg(test)]
mod tests {
    use x509_cert::der::asn1::{Ia5String, OctetString};

    use super::*;

    #[test]
    fn an_alternative_name_counts_only_as_its_kind() {
        let text = |text: &str| Ia5String::new(text).unwrap();
        let mail = |name| GeneralName::Rfc822Name(text(name));
        let dns = |name| GeneralName::DnsName(text(name));
        let uri = |name| GeneralName::UniformResourceIdentifier(text(name));
        let (host, boss, page) = (
            "release.example.com",
            "boss@example.com",
            "https://x@y.example/z",
        );
        let genuine = among(&[dns(host), mail(boss), uri(page)]);
        assert_eq!(genuine.unwrap(), [host, boss, page]);
        for disguised in [
            mail(host),
            uri(host),
            dns(boss),
            uri(boss),
            dns(page),
            mail(page),
        ] {
            assert_eq!(
                among(std::slice::from_ref(&disguised)),
                Some(Vec::new()),
                "{disguised:?}"
            );
        }
        // A common name stands in where no name of these kinds is given.
        let address = GeneralName::IpAddress(OctetString::new([127, 0, 0, 1]).unwrap());
        assert_eq!(among(&[address]), None);
        assert_eq!(among(&[]), None);
    }
}
