/* A PKCS#11 module around the real one (RB_SHIM_MODULE) that fails on command. Commands are lines
 * `name number` in the file RB_SHIM_CONTROL, read at every call:
 *   sign_ms N     wait N ms before C_Sign gives a signature, or until the command is withdrawn
 *   generate_ms N sleep N ms before C_GenerateKeyPair generates
 *   spoil N       C_Sign flips a bit of the signature, N bytes from its end (0: the last byte)
 *   sign_rv N     C_Sign answers N instead of signing
 *   lost_rv N     C_Sign signs, and answers N all the same
 *   init_rv N     C_SignInit answers N
 *   login_rv N    C_Login answers N
 *   flags N       set in CK_TOKEN_INFO.flags of initialized tokens
 *   close_all N   C_SignInit first closes all sessions with the slot
 *   once N        the next failure or closing removes the file
 * C_GetTokenInfo fails for tokens whose label begins with "broken".
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long ulong;
typedef ulong (*fn)();
/* CK_FUNCTION_LIST of PKCS#11 2.40: a version, then 68 functions. */
struct list { unsigned char version[2]; fn f[68]; };
enum { GET_TOKEN_INFO = 6, CLOSE_ALL = 14, SESSION_INFO = 15, LOGIN = 18, SIGN_INIT = 42, SIGN = 43, GENERATE = 59 };

static struct list real, ours;

static int command(const char *name, ulong *value) {
    FILE *file = fopen(getenv("RB_SHIM_CONTROL"), "r");
    char word[32];
    ulong number;
    int found = 0;
    if (!file) return 0;
    while (!found && fscanf(file, "%31s %lu", word, &number) == 2)
        if (!strcmp(word, name)) { *value = number; found = 1; }
    fclose(file);
    return found;
}

static void spent(void) {
    ulong unused;
    if (command("once", &unused)) remove(getenv("RB_SHIM_CONTROL"));
}

static ulong sign_init(ulong session, void *mechanism, ulong key) {
    ulong n;
    if (command("init_rv", &n)) { spent(); return n; }
    if (command("close_all", &n)) {
        ulong info[4]; /* CK_SESSION_INFO: slotID, state, flags, ulDeviceError */
        spent();
        if (!real.f[SESSION_INFO](session, info)) real.f[CLOSE_ALL](info[0]);
    }
    return real.f[SIGN_INIT](session, mechanism, key);
}

static ulong sign(ulong session, void *data, ulong length, void *out, ulong *out_length) {
    ulong n, rv, waited;
    if (!out) return real.f[SIGN](session, data, length, out, out_length); /* only asks for the length */
    for (waited = 0; command("sign_ms", &n) && waited < n; waited += 10) usleep(10 * 1000);
    if (command("sign_rv", &n)) { spent(); return n; }
    rv = real.f[SIGN](session, data, length, out, out_length);
    if (command("lost_rv", &n)) { spent(); return n; }
    if (!rv && command("spoil", &n)) { spent(); ((unsigned char *)out)[*out_length - 1 - n] ^= 1; }
    return rv;
}

static ulong generate(ulong session, void *mechanism, void *public, ulong publics, void *private,
                      ulong privates, ulong *public_key, ulong *private_key) {
    ulong n;
    if (command("generate_ms", &n)) usleep(n * 1000);
    return real.f[GENERATE](session, mechanism, public, publics, private, privates, public_key, private_key);
}

static ulong login(ulong session, ulong user, void *pin, ulong length) {
    ulong n;
    if (command("login_rv", &n)) { spent(); return n; }
    return real.f[LOGIN](session, user, pin, length);
}

static ulong token_info(ulong slot, unsigned char *info) {
    ulong rv = real.f[GET_TOKEN_INFO](slot, info), n;
    ulong *flags = (ulong *)(info + 96); /* after label 32, manufacturer 32, model 16, serial 16 */
    if (rv) return rv;
    if (!memcmp(info, "broken", 6)) return 0x30; /* CKR_DEVICE_ERROR */
    if ((*flags & 0x400) && command("flags", &n)) *flags |= n; /* CKF_TOKEN_INITIALIZED */
    return 0;
}

ulong C_GetFunctionList(struct list **out) {
    if (!ours.f[0]) {
        struct list *theirs;
        void *library = dlopen(getenv("RB_SHIM_MODULE"), RTLD_NOW);
        fn get = library ? (fn)dlsym(library, "C_GetFunctionList") : NULL;
        if (!get || get(&theirs)) return 0x5; /* CKR_GENERAL_ERROR */
        real = ours = *theirs;
        ours.f[3] = (fn)C_GetFunctionList;
        ours.f[GET_TOKEN_INFO] = (fn)token_info;
        ours.f[LOGIN] = (fn)login;
        ours.f[SIGN_INIT] = (fn)sign_init;
        ours.f[SIGN] = (fn)sign;
        ours.f[GENERATE] = (fn)generate;
    }
    *out = &ours;
    return 0;
}
