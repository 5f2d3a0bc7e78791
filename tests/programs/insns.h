/*
 * One function for each kind of instruction that is displaced in its own way: LIST(name, hits for each call, result).
 * The result is an expression of the argument `i`. insns.S has `insn_NAME` with the instruction at `site_NAME`.
 */
#ifdef __i386__
#define OF_THE_ISA(LIST)                                                        \
    LIST(jcxz, 1, i & 1 ? 2 : 1)                                                \
    LIST(jmp_far, 1, i)                                                         \
    LIST(rep_stos, 1, (i & 0xff) * 0x01010101)                                  \
    LIST(repe_cmps, 1, 1)                                                       \
    LIST(pusha, 1, i)                                                           \
    LIST(popa, 1, i)                                                            \
    LIST(daa, 1, (i & 7) + 6 > 9 ? (i & 7) + 12 : (i & 7) + 6)                  \
    LIST(segment, 1, i)                                                         \
    LIST(call_gs, 1, getpid())                                                  \
    LIST(gs, 1, i)                                                              \
    LIST(x87, 1, i)
#else
#define OF_THE_ISA(LIST)                                                        \
    LIST(jrcxz, 1, i & 1 ? 2 : 1)                                               \
    LIST(jmp_rip, 1, i)                                                         \
    LIST(call_rip, 1, i)                                                        \
    LIST(rep_stos, 1, (i & 0xff) * 0x0101010101010101)                          \
    LIST(repe_cmps, 1, 5)                                                       \
    LIST(fs, 1, i)                                                              \
    LIST(rip_load, 1, i + 77)                                                   \
    LIST(rip_lea, 1, i)                                                         \
    LIST(rip_compare, 1, i)                                                     \
    LIST(rip_add, 1, i)                                                         \
    LIST(xchg_r8, 1, i)                                                         \
    LIST(red_zone, 1, i)                                                        \
    LIST(red_zone_nop5, 1, i)                                                   \
    LIST(red_zone_nop10, 1, i)                                                  \
    LIST(cs, 1, i)                                                              \
    LIST(ds, 1, i)                                                              \
    LIST(es, 1, i)                                                              \
    LIST(ss, 1, i)
#endif

#define INSTRUCTIONS(LIST)                                                      \
    LIST(nop, 1, i)                                                             \
    LIST(push, 1, i)                                                            \
    LIST(pop, 1, i)                                                             \
    LIST(push_rsp, 1, i)                                                        \
    LIST(leave, 1, i)                                                           \
    LIST(enter, 1, i)                                                           \
    LIST(xchg, 1, i)                                                            \
    LIST(cmc, 1, i & 1 ? 0 : -1)                                                \
    LIST(adc, 1, i + (i & 1))                                                   \
    LIST(std, 1, 0x400)                                                         \
    LIST(lahf, 1, (i & 1) | 2)                                                  \
    LIST(jcc, 1, (i & 7) < 4 ? 2 : 3)                                           \
    LIST(jcc_near, 1, (i & 7) < 4 ? 2 : 3)                                      \
    LIST(loop, 3, 30)                                                           \
    LIST(loop_self, 5, i)                                                       \
    LIST(loope, 2, 202)                                                         \
    LIST(loopne, 2, 202)                                                        \
    LIST(jecxz, 1, i & 1 ? 2 : 1)                                               \
    LIST(jmp_short, 1, i)                                                       \
    LIST(jmp_reg, 1, i)                                                         \
    LIST(jmp_stack, 1, i)                                                       \
    LIST(call_rel, 1, i)                                                        \
    LIST(call_next, 1, i)                                                       \
    LIST(call_reg, 1, i)                                                        \
    LIST(call_stack, 1, i)                                                      \
    LIST(ret, 1, i)                                                             \
    LIST(ret_imm, 1, i)                                                         \
    LIST(rep_movs, 1, i)                                                        \
    LIST(pushf, 1, 0x401 & -(i & 1))                                            \
    LIST(popf, 1, i & 0xcd5)                                                    \
    LIST(syscall, 1, getpid())                                                  \
    LIST(cpuid, 1, cpu_vendor)                                                  \
    LIST(rdtsc, 1, i)                                                           \
    LIST(lock, 1, i)                                                            \
    LIST(endbr, 1, i)                                                           \
    LIST(sse, 1, i)                                                             \
    OF_THE_ISA(LIST)
