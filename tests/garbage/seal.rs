//! The checksum of a header, for those who forge one. Knows where it lies and how it is reckoned (docs/memory-layout.md):
//! FNV-1a, 64 bits, of what stands before it.

/// Makes the checksum at the end of a header fit what the header says.
pub(crate) fn seal(header: &mut [u8; 256]) {
    let check = header[..0xf8].iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    header[0xf8..].copy_from_slice(&check.to_le_bytes());
}
