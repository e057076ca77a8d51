//! Numbers of nf_tables messages.

/// `NFNL_SUBSYS_NFTABLES`.
pub(super) const SUBSYSTEM: u8 = 10;
/// `NFNL_MSG_BATCH_BEGIN`.
pub(super) const BATCH_BEGIN: u16 = 0x10;
/// `NFNL_MSG_BATCH_END`.
pub(super) const BATCH_END: u16 = 0x11;

// `NFT_MSG_*`.
pub(super) const NEW_TABLE: u8 = 0;
pub(super) const GET_TABLE: u8 = 1;
pub(super) const DELETE_TABLE: u8 = 2;
pub(super) const NEW_CHAIN: u8 = 3;
pub(super) const NEW_RULE: u8 = 6;
pub(super) const NEW_SET: u8 = 9;
pub(super) const NEW_ELEMENT: u8 = 12;
pub(super) const GET_ELEMENT: u8 = 13;
pub(super) const DELETE_ELEMENT: u8 = 14;
