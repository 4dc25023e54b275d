//! Sealing: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) with a nonce of 24 random bytes before each ciphertext, and what the value
//! is of as additional data, so that no sealed value passes for another.

use std::fmt;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, KeyInit as _, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::StoreError;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// Of SHA-256.
const BLOCK_BYTES: usize = 64;

/// The operator's key, from which all others come.
pub struct MasterKey(Zeroizing<[u8; KEY_BYTES]>);

impl MasterKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn random() -> Result<Self, StoreError> {
        Ok(Self(Zeroizing::new(random()?)))
    }

    /// From 64 hexadecimal digits; `None` of anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.trim().as_bytes();
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        if digits.len() != 2 * KEY_BYTES {
            return None;
        }
        HEXLOWER_PERMISSIVE.decode_mut(digits, &mut *bytes).ok()?;
        Some(Self(bytes))
    }

    /// As 64 hexadecimal digits.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(HEXLOWER.encode(&*self.0))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// What comes of the operator's key.
pub(super) struct Keys {
    lookup: Zeroizing<[u8; KEY_BYTES]>,
    digest: Zeroizing<[u8; KEY_BYTES]>,
    pseudonym: Zeroizing<[u8; KEY_BYTES]>,
    /// Of the users' own keys.
    pub wrap: DataKey,
}

impl Keys {
    pub fn of(master: &MasterKey) -> Self {
        Self {
            lookup: Zeroizing::new(mac(&master.0, b"throughline lookup 1")),
            digest: Zeroizing::new(mac(&master.0, b"throughline digest 1")),
            pseudonym: Zeroizing::new(mac(&master.0, b"throughline pseudonym 1")),
            wrap: DataKey::new(&mac(&master.0, b"throughline wrap 1")),
        }
    }

    /// What an id is found by: HMAC-SHA256 under a key of its own.
    pub fn lookup(&self, id: &str) -> [u8; KEY_BYTES] {
        mac(&self.lookup, id.as_bytes())
    }

    /// HMAC-SHA256 of anything that is only compared.
    pub fn digest(&self, of: &[u8]) -> [u8; KEY_BYTES] {
        mac(&self.digest, of)
    }

    /// HMAC-SHA256 of an id, which stands in its place.
    pub fn pseudonym(&self, id: &str) -> [u8; KEY_BYTES] {
        mac(&self.pseudonym, id.as_bytes())
    }

    /// A new key for a user, and the same sealed.
    pub fn new_user(&self, digest: &[u8]) -> Result<(DataKey, Vec<u8>), StoreError> {
        let bytes = Zeroizing::new(random::<KEY_BYTES>()?);
        Ok((DataKey::new(&bytes), self.wrap.seal(&*bytes, digest)?))
    }

    pub fn unwrap(&self, sealed: &[u8], digest: &[u8]) -> Result<DataKey, StoreError> {
        let mut bytes = self.wrap.open(sealed, digest)?;
        let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| StoreError::Sealed);
        bytes.zeroize();
        Ok(DataKey::new(&Zeroizing::new(key?)))
    }
}

/// A key that values are sealed under; gone from memory when it is dropped.
pub(super) struct DataKey(XChaCha20Poly1305);

impl DataKey {
    fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        Self(XChaCha20Poly1305::new(bytes.into()))
    }

    /// Nonce and ciphertext; `of` says what the value is of.
    pub fn seal(&self, value: &[u8], of: &[u8]) -> Result<Vec<u8>, StoreError> {
        let nonce = random::<NONCE_BYTES>()?;
        let payload = Payload { msg: value, aad: of };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload).map_err(|_| StoreError::Sealed)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// The value again.
    pub fn open(&self, sealed: &[u8], of: &[u8]) -> Result<Vec<u8>, StoreError> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES).ok_or(StoreError::Sealed)?;
        let nonce = <[u8; NONCE_BYTES]>::try_from(nonce).map_err(|_| StoreError::Sealed)?;
        self.0.decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad: of }).map_err(|_| StoreError::Sealed)
    }
}

fn mac(key: &[u8; KEY_BYTES], of: &[u8]) -> [u8; KEY_BYTES] {
    // A key shorter than a block is filled with zeros (RFC 2104, section 2).
    let mut block = Zeroizing::new([0; BLOCK_BYTES]);
    block[..KEY_BYTES].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    mac.update(of);
    mac.finalize().into_bytes().into()
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], StoreError> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|_| StoreError::Random)?;
    Ok(bytes)
}
