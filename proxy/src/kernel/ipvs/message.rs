//! A message of the generic netlink family `IPVS`: a command and its attributes.

use netlink_packet_core::{DefaultNla, Emitable};
use netlink_packet_generic::GenlFamily;

/// `IPVS_GENL_NAME`.
pub(super) const FAMILY: &str = "IPVS";

/// Length of `struct genlmsghdr`, in front of the attributes.
pub(super) const HEADER: usize = 4;

/// `IPVS_CMD_*`.
pub(super) mod command {
    pub(crate) const NEW_SERVICE: u8 = 1;
    pub(crate) const SET_SERVICE: u8 = 2;
    pub(crate) const DEL_SERVICE: u8 = 3;
    pub(crate) const GET_SERVICE: u8 = 4;
    pub(crate) const NEW_DEST: u8 = 5;
    pub(crate) const SET_DEST: u8 = 6;
    pub(crate) const DEL_DEST: u8 = 7;
    pub(crate) const GET_DEST: u8 = 8;
    pub(crate) const SET_CONFIG: u8 = 12;
    pub(crate) const GET_CONFIG: u8 = 13;
    pub(crate) const GET_INFO: u8 = 15;
}

/// A message of the family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ipvs {
    pub(super) command: u8,
    pub(super) attributes: Vec<DefaultNla>,
}

impl GenlFamily for Ipvs {
    fn family_name() -> &'static str {
        FAMILY
    }

    fn command(&self) -> u8 {
        self.command
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Ipvs {
    fn buffer_len(&self) -> usize {
        self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.attributes.as_slice().emit(buffer);
    }
}
