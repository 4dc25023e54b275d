//! The kernels of AMX, on a processor that lacks it too: what it refuses to run is run here, as the manual has it.
//!
//! A signal handler takes over at each instruction of AMX (SIGILL), does what the Software Developer's Manual, vol. 2, says it does, and goes
//! on behind it. That shows that tiles are shaped, loaded and multiplied as they should be; that the processor does what its manual says, and
//! that Linux permits it, shows only where a processor has it.

use std::cell::RefCell;
use std::mem::{MaybeUninit, zeroed};

use half::bf16;

use super::super::KernelName;
use libc::{REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
use libc::{REG_RAX, REG_RBP, REG_RBX, REG_RCX, REG_RDI, REG_RDX, REG_RIP, REG_RSI, REG_RSP};

/// Registers by their numbers in an instruction.
const REGISTERS: [libc::c_int; 16] = [
    REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12,
    REG_R13, REG_R14, REG_R15,
];
const ROW_BYTES: usize = 64;

/// A tile: 16 rows of 64 bytes, of which so many are there.
#[derive(Clone, Copy)]
struct Tile {
    rows: usize,
    bytes: usize,
    data: [[u8; ROW_BYTES]; 16],
}

impl Tile {
    const NONE: Self = Self { rows: 0, bytes: 0, data: [[0; ROW_BYTES]; 16] };

    fn four(&self, row: usize, at: usize) -> [u8; 4] {
        let four = &self.data[row][at * 4..][..4];
        [four[0], four[1], four[2], four[3]]
    }
}

thread_local! {
    static TILES: RefCell<[Tile; 8]> = const { RefCell::new([Tile::NONE; 8]) };
}

/// What a processor must have for this process to run a kernel of AMX, of which it runs the instructions from now on.
pub fn instead_of(name: KernelName) -> KernelName {
    let instead = match name {
        KernelName::AmxBf16 => KernelName::Avx512Bf16,
        KernelName::AmxInt8 => KernelName::Avx512Vnni,
        _ => return name,
    };
    println!("this processor has no {name}: AMX is run by the test");
    install();
    instead
}

fn install() {
    // SAFETY: the handler touches the registers of the thread that it interrupts, and what the instruction names.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        assert_eq!(libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut()), 0);
    }
}

extern "C" fn handle(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: Linux hands over the interrupted thread's context.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let at = registers[REG_RIP as usize] as *const u8;
    // SAFETY: an instruction has at most 15 bytes; those here are followed by others.
    let instruction = unsafe { Instruction::read(at, registers) };
    TILES.with_borrow_mut(|tiles| unsafe { instruction.run(tiles) });
    registers[REG_RIP as usize] += instruction.length as i64;
}

/// An instruction with a VEX prefix of three bytes, as all of AMX have (SDM vol. 2A, 2.3.5).
struct Instruction {
    /// What is implied by `pp`: nothing, 66, F3 or F2.
    prefix: u8,
    opcode: u8,
    /// The fields of ModRM and VEX that name tiles.
    register: usize,
    operand: usize,
    third: usize,
    /// Whether `operand` is a tile; else memory is meant: from there, rows so far apart.
    tiles_alone: bool,
    address: *mut u8,
    stride: isize,
    length: usize,
}

impl Instruction {
    unsafe fn read(at: *const u8, registers: &[i64]) -> Self {
        // SAFETY: the caller's promise.
        let bytes = unsafe { &*at.cast::<[u8; 12]>() };
        // No register above the seventh, and the shortest vectors.
        let known = (bytes[0], bytes[1] & 0x9f, bytes[2] & 0xc4) == (0xc4, 0x82, 0x40);
        assert!(known, "no instruction of AMX: {bytes:x?}");
        let [x, b] = [6, 5].map(|bit| (!bytes[1] >> bit & 1) << 3);
        let (modrm, mut length) = (bytes[4], 5);
        let of = |register: u8| registers[REGISTERS[usize::from(register)] as usize];
        let (mode, operand) = (modrm >> 6, modrm & 7);
        let (mut address, mut stride) = (0, 0);
        if mode != 3 {
            let mut base = operand | b;
            if operand == 4 {
                let sib = bytes[5];
                length += 1;
                base = sib & 7 | b;
                let index = sib >> 3 & 7 | x;
                stride = if index == 4 { 0 } else { of(index) << (sib >> 6) };
            }
            assert!(mode != 0 || base & 7 != 5, "no base");
            address = of(base);
            match mode {
                1 => address += i64::from(bytes[length].cast_signed()),
                2 => {
                    let four = [bytes[length], bytes[length + 1], bytes[length + 2], bytes[length + 3]];
                    address += i64::from(i32::from_le_bytes(four));
                }
                _ => {}
            }
            length += [0, 1, 4][usize::from(mode)];
        }
        Self {
            prefix: bytes[2] & 3,
            opcode: bytes[3],
            register: usize::from(modrm >> 3 & 7),
            operand: usize::from(operand),
            third: usize::from(!bytes[2] >> 3 & 7),
            tiles_alone: mode == 3,
            address: address as *mut u8,
            stride: stride as isize,
            length,
        }
    }

    unsafe fn run(&self, tiles: &mut [Tile; 8]) {
        let (a, b) = (tiles[self.operand], tiles[self.third]);
        let multiplies = matches!(self.opcode, 0x5c | 0x5e);
        let apart = self.register != self.operand && self.operand != self.third && self.third != self.register;
        assert!(!multiplies || apart, "an undefined opcode: a tile is named twice");
        let tile = &mut tiles[self.register];
        // SAFETY: what an instruction names in memory is the program's.
        unsafe {
            match (self.opcode, self.prefix, self.tiles_alone) {
                (0x49, 0, false) => *tiles = self.configuration(),
                (0x49, 0, true) => *tiles = [Tile::NONE; 8],
                (0x49, 3, true) => {
                    assert!(tile.rows > 0, "tile {} is not configured", self.register);
                    tile.data = Tile::NONE.data;
                }
                (0x4b, 3, false) => {
                    assert!(tile.rows > 0, "tile {} is not configured", self.register);
                    tile.data = Tile::NONE.data;
                    for row in 0..tile.rows {
                        let from = self.address.offset(row as isize * self.stride);
                        std::ptr::copy_nonoverlapping(from, tile.data[row].as_mut_ptr(), tile.bytes);
                    }
                }
                (0x4b, 2, false) => {
                    assert!(tile.rows > 0, "tile {} is not configured", self.register);
                    for row in 0..tile.rows {
                        let to = self.address.offset(row as isize * self.stride);
                        std::ptr::copy_nonoverlapping(tile.data[row].as_ptr(), to, tile.bytes);
                    }
                }
                (0x5c, 2, true) => multiply(tile, &a, &b, bf16_dot),
                (0x5e, 2, true) => multiply(tile, &a, &b, int8_dot),
                other => panic!("no instruction that is used here: {other:x?}"),
            }
        }
    }

    /// LDTILECFG.
    unsafe fn configuration(&self) -> [Tile; 8] {
        let mut read = MaybeUninit::<[u8; 64]>::uninit();
        // SAFETY: 64 bytes are read.
        let bytes = unsafe {
            std::ptr::copy_nonoverlapping(self.address, read.as_mut_ptr().cast(), 64);
            read.assume_init()
        };
        assert!(bytes[0] == 1 && bytes[1..16].iter().all(|byte| *byte == 0), "palette, first row, reserved: {bytes:?}");
        assert!(bytes[32..48].iter().chain(&bytes[56..]).all(|byte| *byte == 0), "there are eight tiles: {bytes:?}");
        std::array::from_fn(|tile| {
            let row_bytes = usize::from(u16::from_le_bytes([bytes[16 + 2 * tile], bytes[17 + 2 * tile]]));
            let rows = usize::from(bytes[48 + tile]);
            // Otherwise a general-protection fault.
            assert!(rows <= 16 && row_bytes <= ROW_BYTES && (rows == 0) == (row_bytes == 0), "{rows} × {row_bytes}");
            Tile { rows, bytes: row_bytes, ..Tile::NONE }
        })
    }
}

/// A sum of a tile and the products that go into it, by its place.
type Dot = fn(&Tile, (usize, usize), (&Tile, &Tile)) -> [u8; 4];

/// The products' loops, and when they raise an undefined-opcode exception.
fn multiply(sums: &mut Tile, a: &Tile, b: &Tile, dot: Dot) {
    assert!(sums.rows > 0 && a.rows > 0 && b.rows > 0, "not configured");
    assert!(sums.rows == a.rows && sums.bytes == b.bytes && a.bytes / 4 == b.rows && a.bytes.is_multiple_of(4));
    for row in 0..sums.rows {
        let mut new = [[0; 4]; ROW_BYTES / 4];
        for (column, new) in new.iter_mut().enumerate().take(sums.bytes / 4) {
            *new = dot(sums, (row, column), (a, b));
        }
        sums.data[row].as_chunks_mut().0.copy_from_slice(&new);
    }
}

/// 0 for a number too small to be normal, with its sign: both operands and results are taken so (DAZ, FTZ).
fn flushed(number: f32) -> f32 {
    if number.is_subnormal() { 0f32.copysign(number) } else { number }
}

/// TDPBF16PS: the products of even and of odd depths in sums of their own, in the order of the depth, each step rounded once.
fn bf16_dot(sums: &Tile, (row, column): (usize, usize), (a, b): (&Tile, &Tile)) -> [u8; 4] {
    let pair =
        |four: [u8; 4]| [[four[0], four[1]], [four[2], four[3]]].map(|two| flushed(bf16::from_le_bytes(two).to_f32()));
    let mut halves = [0.0f32; 2];
    for group in 0..b.rows {
        let (a, b) = (pair(a.four(row, group)), pair(b.four(group, column)));
        for (half, (a, b)) in halves.iter_mut().zip(a.into_iter().zip(b)) {
            *half = flushed(a.mul_add(b, *half));
        }
    }
    let before = flushed(f32::from_le_bytes(sums.four(row, column)));
    flushed(before + flushed(halves[0] + halves[1])).to_le_bytes()
}

/// TDPBSUD: signed bytes of the first operand times unsigned ones of the second.
fn int8_dot(sums: &Tile, (row, column): (usize, usize), (a, b): (&Tile, &Tile)) -> [u8; 4] {
    let mut sum = i32::from_le_bytes(sums.four(row, column));
    for group in 0..b.rows {
        for (a, b) in a.four(row, group).into_iter().zip(b.four(group, column)) {
            sum = sum.wrapping_add(i32::from(a.cast_signed()) * i32::from(b));
        }
    }
    sum.to_le_bytes()
}
