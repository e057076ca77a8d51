//! Writing and reading nf_tables messages: attributes are type, length, value.

/// `NFNL_SUBSYS_NFTABLES`.
pub(super) const SUBSYSTEM: u8 = 10;
/// `NFNL_MSG_BATCH_BEGIN`.
pub(super) const BATCH_BEGIN: u16 = 0x10;
/// `NFNL_MSG_BATCH_END`.
pub(super) const BATCH_END: u16 = 0x11;
/// `NFPROTO_IPV4`.
pub(super) const FAMILY_IP: u8 = 2;
/// Set on the type of an attribute that contains attributes.
const NESTED: u16 = 0x8000;

/// Message numbers (`NFT_MSG_*`).
pub(super) mod message {
    pub(in crate::nft) const NEW_TABLE: u8 = 0;
    pub(in crate::nft) const GET_TABLE: u8 = 1;
    pub(in crate::nft) const DELETE_TABLE: u8 = 2;
    pub(in crate::nft) const NEW_CHAIN: u8 = 3;
    pub(in crate::nft) const NEW_RULE: u8 = 6;
    pub(in crate::nft) const NEW_SET: u8 = 9;
    pub(in crate::nft) const NEW_ELEMENT: u8 = 12;
    pub(in crate::nft) const GET_ELEMENT: u8 = 13;
    pub(in crate::nft) const DELETE_ELEMENT: u8 = 14;
}

/// Appends netlink messages with nested attributes to a buffer.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    /// Writes one message: header, nfnetlink header, then what `body` adds.
    pub(super) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        (family, resource): (u8, u16),
        body: impl FnOnce(&mut Writer),
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        body(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |writer| writer.bytes.extend_from_slice(value));
    }

    pub(super) fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |writer| {
            writer.bytes.extend_from_slice(value.as_bytes());
            writer.bytes.push(0);
        });
    }

    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(super) fn nested(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        self.attribute(kind | NESTED, body);
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        body(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }
}

/// Iterates over `(type, value)` of attributes; stops at malformed bytes.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Finds an attribute by type.
pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}
