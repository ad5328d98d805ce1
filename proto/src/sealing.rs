//! Keys under which secrets at rest are sealed with XChaCha20-Poly1305. Sealed bytes are a nonce, the wrapped bytes and
//! their tag.

use chacha20poly1305::aead::{AeadInOut as _, Generate as _, KeyInit as _};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};
use zeroize::{Zeroize as _, Zeroizing};

/// How many bytes sealed bytes are longer than the plain ones.
pub const OVERHEAD: usize = NONCE + TAG;

/// How many bytes every key has.
pub const KEY: usize = 32;

/// How many bytes of [`OVERHEAD`] lie before the wrapped ones.
pub const NONCE: usize = 24;

const TAG: usize = 16;

/// The system gives no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness;

/// Why sealed bytes were not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not even a nonce and a tag are there.
    #[error("it is cut off")]
    Short,
    /// They do not belong to this key and this place.
    #[error("it is damaged, or was sealed under another key")]
    Refused,
}

/// A key, which leaves nothing in memory when it goes.
pub struct SealingKey {
    cipher: XChaCha20Poly1305,
    bytes: Zeroizing<Vec<u8>>,
}

impl SealingKey {
    /// A new one.
    pub fn make() -> Result<Self, NoRandomness> {
        let mut key = Key::try_generate().map_err(|_| NoRandomness)?;
        let bytes = Zeroizing::new(key.to_vec());
        key.zeroize();
        Self::of(bytes).ok_or(NoRandomness)
    }

    /// The key that these bytes are; `None` when they are not 32.
    pub fn of(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        if bytes.len() != KEY {
            return None;
        }
        let cipher = XChaCha20Poly1305::new_from_slice(&bytes).ok()?;
        Some(Self { cipher, bytes })
    }

    /// Reads a key's text: what it is a key for, and 64 hexadecimal digits.
    pub fn parse(form: &str, text: &str) -> Option<Self> {
        Self::of(from_hex(text.trim().strip_prefix(form)?)?)
    }

    /// Its text.
    pub fn text(&self, form: &str) -> Zeroizing<String> {
        Zeroizing::new(format!("{form}{}", to_hex(&self.bytes).as_str()))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends sealed bytes. They open only with what they are said to be about.
    ///
    /// # Panics
    ///
    /// With more than 256 GiB.
    pub fn seal(&self, about: &[u8], plain: &[u8], out: &mut Vec<u8>) {
        out.reserve(OVERHEAD + plain.len());
        let start = out.len();
        out.extend_from_slice(&[0; NONCE]);
        out.extend_from_slice(plain);
        self.seal_in_place(about, out, start);
    }

    /// The same of all that lies behind `start` and [`NONCE`] bytes of room there.
    ///
    /// # Panics
    ///
    /// With more than 256 GiB, and without that room.
    pub fn seal_in_place(&self, about: &[u8], bytes: &mut Vec<u8>, start: usize) {
        let nonce = XNonce::generate();
        let (room, plain) = bytes[start..].split_at_mut(NONCE);
        room.copy_from_slice(&nonce);
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce, about, plain.into())
            .expect("only more than 256 GiB are too much");
        bytes.extend_from_slice(&tag);
    }

    /// Appends what was sealed; nothing when it is refused.
    pub fn open(&self, about: &[u8], sealed: &[u8], out: &mut Vec<u8>) -> Result<(), OpenError> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE>().ok_or(OpenError::Short)?;
        let (wrapped, tag) = rest.split_last_chunk::<TAG>().ok_or(OpenError::Short)?;
        let start = out.len();
        out.extend_from_slice(wrapped);
        let (nonce, tag) = (XNonce::from(*nonce), Tag::from(*tag));
        let buffer = (&mut out[start..]).into();
        self.cipher.decrypt_inout_detached(&nonce, about, buffer, &tag).map_err(|_| {
            out.truncate(start);
            OpenError::Refused
        })
    }
}

/// Bytes as hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    for byte in bytes {
        for digit in [byte >> 4, byte & 0xf] {
            text.extend(char::from_digit(digit.into(), 16));
        }
    }
    text
}

/// Hexadecimal digits as bytes; `None` when they are something else.
pub fn from_hex(digits: &str) -> Option<Zeroizing<Vec<u8>>> {
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    // As long as it will be from the start: nothing is left behind where it grew.
    let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    for at in (0..digits.len()).step_by(2) {
        bytes.push(u8::from_str_radix(&digits[at..at + 2], 16).ok()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(key: &SealingKey, about: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        key.seal(about, plain, &mut out);
        out.split_off(6)
    }

    #[test]
    fn sealed_bytes_open_with_their_key_and_place_alone() {
        let (key, other) = (SealingKey::make().unwrap(), SealingKey::make().unwrap());
        let bytes = sealed(&key, b"here", b"plain");
        assert_eq!(bytes.len(), 5 + OVERHEAD);
        let mut out = b"before".to_vec();
        assert_eq!(other.open(b"here", &bytes, &mut out), Err(OpenError::Refused));
        assert_eq!(key.open(b"there", &bytes, &mut out), Err(OpenError::Refused));
        assert_eq!(key.open(b"here", &bytes[..OVERHEAD - 1], &mut out), Err(OpenError::Short));
        assert_eq!(out, b"before", "a refusal leaves nothing behind");
        key.open(b"here", &bytes, &mut out).unwrap();
        assert_eq!(out, b"beforeplain");
    }

    #[test]
    fn a_key_is_read_from_its_text() {
        let key = SealingKey::make().unwrap();
        let text = key.text("KEY-1-");
        let again = SealingKey::parse("KEY-1-", &format!(" {}\n", text.as_str())).unwrap();
        assert_eq!(again.bytes(), key.bytes());
        for wrong in ["", "KEY-1-", "KEY-1-00", "KEY-1-é", &text.replace('1', "2")] {
            assert!(SealingKey::parse("KEY-1-", wrong).is_none(), "{wrong}");
        }
    }
}
