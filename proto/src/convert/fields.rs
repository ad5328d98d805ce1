//! The pieces that every conversion is made of.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use crate::wire;

/// Why a message is no domain value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}.{field}: {reason}")]
pub struct ConvertError {
    /// The outermost message: `Task`.
    pub message: &'static str,
    /// The field, with the way to it: `status.state`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads the fields of one message; each error names that message and the field.
#[derive(Debug, Clone, Copy)]
pub struct Fields(pub &'static str);

impl Fields {
    /// An error about a field.
    pub fn refuse(self, field: &str, reason: impl Display) -> ConvertError {
        ConvertError { message: self.0, field: field.to_owned(), reason: reason.to_string() }
    }

    /// Puts the way through this message before an inner message's error.
    fn outer(self, field: &str, inner: ConvertError) -> ConvertError {
        let field = format!("{field}.{}", inner.field);
        ConvertError { message: self.0, field, reason: inner.reason }
    }

    /// A message that must be there.
    pub fn required<W, D>(self, field: &str, value: Option<W>) -> Result<D, ConvertError>
    where
        D: TryFrom<W, Error = ConvertError>,
    {
        let value = value.ok_or_else(|| self.refuse(field, "is missing"))?;
        D::try_from(value).map_err(|error| self.outer(field, error))
    }

    /// A message that may be absent.
    pub fn optional<W, D>(self, field: &str, value: Option<W>) -> Result<Option<D>, ConvertError>
    where
        D: TryFrom<W, Error = ConvertError>,
    {
        let converted = value.map(D::try_from).transpose();
        converted.map_err(|error| self.outer(field, error))
    }

    /// A list of messages.
    pub fn list<W, D>(self, field: &str, values: Vec<W>) -> Result<Vec<D>, ConvertError>
    where
        D: TryFrom<W, Error = ConvertError>,
    {
        let convert = |(index, value)| {
            D::try_from(value).map_err(|error| self.outer(&format!("{field}[{index}]"), error))
        };
        values.into_iter().enumerate().map(convert).collect()
    }

    /// A list of messages that a set keeps by identity; one identity twice is an error.
    pub fn keyed<W, K, D>(
        self,
        field: &str,
        values: Vec<W>,
        key: impl Fn(&D) -> K,
    ) -> Result<BTreeMap<K, D>, ConvertError>
    where
        K: Ord,
        D: TryFrom<W, Error = ConvertError>,
    {
        let list = self.list(field, values)?;
        let count = list.len();
        let map: BTreeMap<K, D> = list.into_iter().map(|value| (key(&value), value)).collect();
        if map.len() == count {
            Ok(map)
        } else {
            Err(self.refuse(field, "holds one identity twice"))
        }
    }

    /// Messages by name or number.
    pub fn map<K, W, D>(
        self,
        field: &str,
        values: BTreeMap<K, W>,
    ) -> Result<BTreeMap<K, D>, ConvertError>
    where
        K: Ord + fmt::Debug,
        D: TryFrom<W, Error = ConvertError>,
    {
        let convert = |(key, value): (K, W)| match D::try_from(value) {
            Ok(value) => Ok((key, value)),
            Err(error) => Err(self.outer(&format!("{field}[{key:?}]"), error)),
        };
        values.into_iter().map(convert).collect()
    }

    /// An enumeration: `W` is the generated one, `D` the domain's. Zero means that it was never set.
    pub fn enumeration<W, D>(self, field: &str, number: i32) -> Result<D, ConvertError>
    where
        W: TryFrom<i32> + Into<Option<D>>,
    {
        let known = W::try_from(number)
            .map_err(|_| self.refuse(field, format_args!("has the unknown value {number}")))?;
        known.into().ok_or_else(|| self.refuse(field, "is not set"))
    }

    /// A value with a text form, such as a task id or a digest.
    pub fn text<D>(self, field: &str, text: &str) -> Result<D, ConvertError>
    where
        D: FromStr,
        D::Err: Display,
    {
        text.parse().map_err(|error| self.refuse(field, error))
    }

    /// A list of such values.
    pub fn texts<D>(self, field: &str, texts: &[String]) -> Result<Vec<D>, ConvertError>
    where
        D: FromStr,
        D::Err: Display,
    {
        texts.iter().map(|text| self.text(field, text)).collect()
    }

    /// A port number.
    pub fn port(self, field: &str, number: u32) -> Result<u16, ConvertError> {
        u16::try_from(number)
            .map_err(|_| self.refuse(field, format_args!("{number} is not a port, 0 to 65535")))
    }

    /// A number below 256.
    pub fn small(self, field: &str, number: u32) -> Result<u8, ConvertError> {
        u8::try_from(number)
            .map_err(|_| self.refuse(field, format_args!("{number} is more than 255")))
    }

    /// The length of an IPv4 prefix.
    pub fn prefix_length(self, field: &str, number: u32) -> Result<u8, ConvertError> {
        match u8::try_from(number) {
            Ok(length) if length <= 32 => Ok(length),
            _ => Err(self.refuse(field, format_args!("{number} is not a prefix length, 0 to 32"))),
        }
    }

    /// An address and a prefix length.
    pub fn prefix(self, field: &str, prefix: wire::Prefix) -> Result<(Ipv4Addr, u8), ConvertError> {
        Ok((prefix.address.into(), self.prefix_length(field, prefix.length)?))
    }

    /// A link address.
    pub fn mac(self, field: &str, number: u64) -> Result<[u8; 6], ConvertError> {
        match number.to_be_bytes() {
            [0, 0, mac @ ..] => Ok(mac),
            _ => Err(self.refuse(field, format_args!("{number:#x} is not a link address"))),
        }
    }
}

/// Messages of a list of domain values.
pub fn each<'a, D: 'a, W: From<&'a D>>(values: impl IntoIterator<Item = &'a D>) -> Vec<W> {
    values.into_iter().map(W::from).collect()
}

/// A duration as it travels; more than `u64` milliseconds saturate.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A link address as it travels.
pub fn mac_number(mac: [u8; 6]) -> u64 {
    mac.into_iter().fold(0, |number, byte| number << 8 | u64::from(byte))
}

/// Addresses as they travel.
pub fn addresses(addresses: &[Ipv4Addr]) -> Vec<u32> {
    addresses.iter().copied().map(u32::from).collect()
}

/// An address and a prefix length as they travel.
pub fn prefix((address, length): (Ipv4Addr, u8)) -> wire::Prefix {
    wire::Prefix { address: address.into(), length: length.into() }
}
