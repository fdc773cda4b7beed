/* A PKCS#11 module around the real one (RB_SHIM_MODULE) that fails on command, or behaves as modules of
 * other vendors do. Commands are lines `name number` in the file RB_SHIM_CONTROL, read at every call:
 *   CALL_ms N     wait N ms before the call, or until the command is withdrawn; CALL is initialize, open, login,
 *                 find, init (C_SignInit) or sign
 *   CALL_rv N     the call answers N instead
 *   hang N        the next N calls of C_Sign never return, whatever the file says later
 *   hang_login N  the same of C_Login
 *   generate_ms N sleep N ms before C_GenerateKeyPair generates
 *   spoil N       C_Sign flips a bit of the signature, N bytes from its end (0: the last byte)
 *   lost_rv N     C_Sign signs, and answers N all the same
 *   spare N       none of these for data whose first four octets are N, big-endian
 *   flags N       set in CK_TOKEN_INFO.flags of initialized tokens
 *   unflag N      cleared in CK_TOKEN_INFO.flags
 *   nul N         the text fields of CK_TOKEN_INFO and CK_SLOT_INFO end with NULs instead of blanks
 *   bad_clock N   CK_TOKEN_INFO.utcTime is no time
 *   no_login N    sessions are logged in by themselves (RB_SHIM_PIN) and do not show it; C_Login fails
 *   hidden_login N  C_Login works, and C_GetSessionInfo does not show it
 *   raw_point N   CKA_EC_POINT is the point, without the header of an OCTET STRING
 *   first_x N     C_GenerateKeyPair tries until the X of an EC point begins with N
 *   id_octets N   CKA_ID keeps its first N octets
 *   no_false N    C_GenerateKeyPair refuses attribute type N with the value false
 *   no_type N     C_GenerateKeyPair refuses attribute type N
 *   no_mechanism N  C_SignInit refuses mechanism N
 *   each_pin N    private keys are CKA_ALWAYS_AUTHENTICATE
 *   generate_kill N  C_GenerateKeyPair ends the process once it has generated N pairs
 *   generate_max N  C_GenerateKeyPair fails after N pairs
 *   close_all N   C_SignInit first closes all sessions with the slot
 *   close_one N   C_SignInit first closes its own session
 *   slot_shift N  slots have numbers greater by N from the next C_Initialize
 *   sessions N    no more than N sessions at once, which CK_TOKEN_INFO.ulMaxSessionCount says too
 *   create_rv N   C_CreateObject answers N
 *   wedge N       C_GetTokenInfo and C_SignInit answer N from the next of them until C_Initialize
 *   once N        the next failure or closing removes the file
 * C_GetTokenInfo fails for tokens whose label begins with "broken". C_Finalize during C_Sign ends the process.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long ulong;
typedef ulong (*fn)();
/* CK_FUNCTION_LIST of PKCS#11 2.40: a version, then 68 functions. */
struct list { unsigned char version[2]; fn f[68]; };
enum { INITIALIZE = 0, FINALIZE = 1, GET_SLOTS = 4, GET_SLOT_INFO = 5, GET_TOKEN_INFO = 6, GET_MECHANISMS = 7, GET_MECHANISM = 8,
       INIT_TOKEN = 9, OPEN_SESSION = 12, CLOSE_SESSION = 13, CLOSE_ALL = 14, SESSION_INFO = 15, LOGIN = 18,
       CREATE = 20, COPY = 21, DESTROY = 22, GET_ATTRIBUTE = 24, FIND_INIT = 26, SIGN_INIT = 42, SIGN = 43, GENERATE = 59 };
struct attribute { ulong type; void *value; ulong length; };
enum { TOKEN = 0x1, ID = 0x102, EC_POINT = 0x181, ALWAYS_AUTHENTICATE = 0x202 };

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

/* The fault of one call: it waits, and then fails. */
static int faulty(const char *call, ulong *rv) {
    char name[32];
    ulong n, waited;
    snprintf(name, sizeof name, "%s_ms", call);
    for (waited = 0; command(name, &n) && waited < n; waited += 10) usleep(10 * 1000);
    snprintf(name, sizeof name, "%s_rv", call);
    if (!command(name, rv)) return 0;
    spent();
    return 1;
}

static ulong wedged, shift;
static int signing, sessions, hanging, hanging_logins;

static void hang(const char *name, int *already) {
    ulong n;
    if (command(name, &n) && __atomic_fetch_add(already, 1, __ATOMIC_SEQ_CST) < (int)n)
        for (;;) pause();
}

static ulong is_wedged(void) {
    ulong n;
    if (command("wedge", &n)) { wedged = n; spent(); }
    return wedged;
}

static ulong initialize(void *arguments) {
    ulong n;
    if (faulty("initialize", &n)) return n;
    wedged = 0;
    sessions = 0;
    shift = command("slot_shift", &n) ? n : 0;
    return real.f[INITIALIZE](arguments);
}

static ulong finalize(void *reserved) {
    if (__atomic_load_n(&signing, __ATOMIC_SEQ_CST)) abort();
    return real.f[FINALIZE](reserved);
}

static ulong sign_init(ulong session, void *mechanism, ulong key) {
    ulong n;
    if (is_wedged()) return wedged;
    if (faulty("init", &n)) return n;
    if (command("no_mechanism", &n) && *(ulong *)mechanism == n) return 0x70; /* CKR_MECHANISM_INVALID */
    if (command("close_all", &n)) {
        ulong info[4]; /* CK_SESSION_INFO: slotID, state, flags, ulDeviceError */
        spent();
        if (!real.f[SESSION_INFO](session, info)) real.f[CLOSE_ALL](info[0]);
    }
    if (command("close_one", &n)) { spent(); real.f[CLOSE_SESSION](session); }
    return real.f[SIGN_INIT](session, mechanism, key);
}

static ulong sign_once(ulong session, void *data, ulong length, void *out, ulong *out_length) {
    ulong n, rv;
    const unsigned char *octet = data;
    if (!out) return real.f[SIGN](session, data, length, out, out_length); /* only asks for the length */
    if (length >= 4 && command("spare", &n) &&
        n == ((ulong)octet[0] << 24 | octet[1] << 16 | octet[2] << 8 | octet[3]))
        return real.f[SIGN](session, data, length, out, out_length);
    hang("hang", &hanging);
    if (faulty("sign", &n)) return n;
    rv = real.f[SIGN](session, data, length, out, out_length);
    if (command("lost_rv", &n)) { spent(); return n; }
    if (!rv && command("spoil", &n)) { spent(); ((unsigned char *)out)[*out_length - 1 - n] ^= 1; }
    return rv;
}

static ulong sign(ulong session, void *data, ulong length, void *out, ulong *out_length) {
    ulong rv;
    __atomic_add_fetch(&signing, 1, __ATOMIC_SEQ_CST);
    rv = sign_once(session, data, length, out, out_length);
    __atomic_sub_fetch(&signing, 1, __ATOMIC_SEQ_CST);
    return rv;
}

/* Copies a template, with CKA_ID cut. */
static struct attribute *cut(struct attribute *template, ulong count, struct attribute *copy) {
    ulong n;
    memcpy(copy, template, count * sizeof *copy);
    for (ulong i = 0; i < count && command("id_octets", &n); i++)
        if (copy[i].type == ID && copy[i].length > n) copy[i].length = n;
    return copy;
}

static ulong find_init(ulong session, struct attribute *template, ulong count) {
    struct attribute copy[16];
    ulong n;
    if (faulty("find", &n)) return n;
    return real.f[FIND_INIT](session, cut(template, count, copy), count);
}

static ulong get_attribute(ulong session, ulong object, struct attribute *wanted, ulong count) {
    unsigned char point[256];
    struct attribute whole = {EC_POINT, point, sizeof point};
    ulong unused, rv;
    if (count == 1 && wanted->type == ALWAYS_AUTHENTICATE && wanted->value && command("each_pin", &unused)) {
        *(unsigned char *)wanted->value = 1;
        wanted->length = 1;
        return 0;
    }
    if (count != 1 || wanted->type != EC_POINT || !command("raw_point", &unused))
        return real.f[GET_ATTRIBUTE](session, object, wanted, count);
    rv = real.f[GET_ATTRIBUTE](session, object, &whole, 1ul);
    if (rv) { wanted->length = whole.length; return rv; }
    if (wanted->value) memcpy(wanted->value, point + 2, whole.length - 2);
    wanted->length = whole.length - 2;
    return 0;
}

static ulong refused(struct attribute *template, ulong count) {
    ulong n;
    for (ulong i = 0; i < count; i++) {
        if (command("no_type", &n) && template[i].type == n) return 0x12; /* CKR_ATTRIBUTE_TYPE_INVALID */
        if (command("no_false", &n) && template[i].type == n && !*(char *)template[i].value)
            return 0x13; /* CKR_ATTRIBUTE_VALUE_INVALID */
    }
    return 0;
}

/* CKA_TOKEN becomes *value. */
static void set_token(struct attribute *template, ulong count, unsigned char *value) {
    for (ulong i = 0; i < count; i++)
        if (template[i].type == TOKEN) template[i].value = value;
}

/* Tries pairs that exist in the session only: a pair in the token costs writes to the disk, and it takes 256 tries
 * on average. The pair that fits is copied into the token. */
static ulong generate_first_x(ulong session, void *mechanism, struct attribute *public, ulong publics,
                              struct attribute *private, ulong privates, ulong *public_key, ulong *private_key,
                              ulong first) {
    unsigned char no = 0, yes = 1, point[256];
    struct attribute in_token = {TOKEN, &yes, 1};
    ulong keys[2], rv;
    set_token(public, publics, &no);
    set_token(private, privates, &no);
    for (;;) {
        struct attribute whole = {EC_POINT, point, sizeof point};
        rv = real.f[GENERATE](session, mechanism, public, publics, private, privates, &keys[0], &keys[1]);
        if (rv) return rv;
        rv = real.f[GET_ATTRIBUTE](session, keys[0], &whole, 1ul);
        /* The OCTET STRING's header has two octets, then 04. */
        if (!rv && point[3] == first) {
            rv = real.f[COPY](session, keys[0], &in_token, 1ul, public_key);
            if (!rv) rv = real.f[COPY](session, keys[1], &in_token, 1ul, private_key);
        } else if (!rv) {
            rv = ~0ul;
        }
        real.f[DESTROY](session, keys[0]);
        real.f[DESTROY](session, keys[1]);
        if (rv != ~0ul) return rv;
    }
}

static ulong generate(ulong session, void *mechanism, struct attribute *public, ulong publics,
                      struct attribute *private, ulong privates, ulong *public_key, ulong *private_key) {
    static ulong made;
    struct attribute a[32], b[32];
    ulong n, rv;
    if (command("generate_ms", &n)) usleep(n * 1000);
    if ((rv = refused(public, publics)) || (rv = refused(private, privates))) return rv;
    if (command("generate_max", &n) && made >= n) return 0x31; /* CKR_DEVICE_MEMORY */
    public = cut(public, publics, a);
    private = cut(private, privates, b);
    if (command("first_x", &n))
        rv = generate_first_x(session, mechanism, public, publics, private, privates, public_key, private_key, n);
    else
        rv = real.f[GENERATE](session, mechanism, public, publics, private, privates, public_key, private_key);
    if (!rv) made++;
    if (!rv && command("generate_kill", &n) && made >= n) kill(getpid(), SIGKILL);
    return rv;
}

static ulong open_session(ulong slot, ulong flags, void *data, void *notify, ulong *session) {
    ulong unused, rv, n;
    const char *pin = getenv("RB_SHIM_PIN");
    if (faulty("open", &n)) return n;
    if (command("sessions", &n) && __atomic_load_n(&sessions, __ATOMIC_SEQ_CST) >= (int)n) return 0xb1; /* CKR_SESSION_COUNT */
    rv = real.f[OPEN_SESSION](slot - shift, flags, data, notify, session);
    if (!rv) __atomic_add_fetch(&sessions, 1, __ATOMIC_SEQ_CST);
    if (!rv && pin && command("no_login", &unused)) real.f[LOGIN](*session, 1ul, pin, (ulong)strlen(pin));
    return rv;
}

static ulong close_session(ulong session) {
    ulong rv = real.f[CLOSE_SESSION](session);
    if (!rv) __atomic_sub_fetch(&sessions, 1, __ATOMIC_SEQ_CST);
    return rv;
}

static ulong slots(unsigned char present, ulong *list, ulong *count) {
    ulong rv = real.f[GET_SLOTS](present, list, count);
    for (ulong i = 0; !rv && list && i < *count; i++) list[i] += shift;
    return rv;
}

static ulong mechanisms(ulong slot, ulong *list, ulong *count) { return real.f[GET_MECHANISMS](slot - shift, list, count); }

static ulong mechanism_info(ulong slot, ulong type, void *info) { return real.f[GET_MECHANISM](slot - shift, type, info); }

static ulong init_token(ulong slot, void *pin, ulong length, void *label) {
    return real.f[INIT_TOKEN](slot - shift, pin, length, label);
}

static ulong session_info(ulong session, ulong *info) {
    ulong unused, rv = real.f[SESSION_INFO](session, info);
    /* CK_SESSION_INFO.state: each user state becomes the public one. */
    if (!rv && (command("no_login", &unused) || command("hidden_login", &unused)))
        info[1] = info[1] == 1 ? 0 : info[1] == 3 ? 2 : info[1];
    return rv;
}

static ulong login(ulong session, ulong user, void *pin, ulong length) {
    ulong n;
    hang("hang_login", &hanging_logins);
    if (faulty("login", &n)) return n;
    if (user == 1 && command("no_login", &n)) return 0x54; /* CKR_FUNCTION_NOT_SUPPORTED */
    return real.f[LOGIN](session, user, pin, length);
}

/* Blanks at the end of a text field become NULs. */
static void pad(unsigned char *text, int length) {
    ulong unused;
    if (command("nul", &unused))
        while (length-- && text[length] == ' ') text[length] = 0;
}

static ulong slot_info(ulong slot, unsigned char *info) {
    ulong rv = real.f[GET_SLOT_INFO](slot - shift, info);
    if (rv) return rv;
    pad(info, 64);
    pad(info + 64, 32);
    return 0;
}

static ulong token_info(ulong slot, unsigned char *info) {
    ulong rv = real.f[GET_TOKEN_INFO](slot - shift, info), n;
    ulong *flags = (ulong *)(info + 96); /* after label 32, manufacturer 32, model 16, serial 16 */
    if (rv) return rv;
    if (is_wedged()) return wedged;
    if (!memcmp(info, "broken", 6)) return 0x30; /* CKR_DEVICE_ERROR */
    if ((*flags & 0x400) && command("flags", &n)) *flags |= n; /* CKF_TOKEN_INITIALIZED */
    if (command("unflag", &n)) *flags &= ~n;
    if (command("sessions", &n)) ((ulong *)(info + 104))[0] = n; /* ulMaxSessionCount */
    if (command("bad_clock", &n)) { *flags |= 0x40; memset(info + 188, '?', 16); } /* CKF_CLOCK_ON_TOKEN */
    pad(info, 32);
    pad(info + 32, 32);
    pad(info + 64, 16);
    pad(info + 80, 16);
    return 0;
}

static ulong create(ulong session, struct attribute *template, ulong count, ulong *object) {
    ulong n;
    if (command("create_rv", &n)) { spent(); return n; }
    return real.f[CREATE](session, template, count, object);
}

ulong C_GetFunctionList(struct list **out) {
    if (!ours.f[0]) {
        struct list *theirs;
        void *library = dlopen(getenv("RB_SHIM_MODULE"), RTLD_NOW);
        fn get = library ? (fn)dlsym(library, "C_GetFunctionList") : NULL;
        if (!get || get(&theirs)) return 0x5; /* CKR_GENERAL_ERROR */
        real = ours = *theirs;
        ours.f[INITIALIZE] = (fn)initialize;
        ours.f[FINALIZE] = (fn)finalize;
        ours.f[3] = (fn)C_GetFunctionList;
        ours.f[GET_SLOTS] = (fn)slots;
        ours.f[GET_MECHANISMS] = (fn)mechanisms;
        ours.f[GET_MECHANISM] = (fn)mechanism_info;
        ours.f[INIT_TOKEN] = (fn)init_token;
        ours.f[CLOSE_SESSION] = (fn)close_session;
        ours.f[GET_SLOT_INFO] = (fn)slot_info;
        ours.f[GET_TOKEN_INFO] = (fn)token_info;
        ours.f[OPEN_SESSION] = (fn)open_session;
        ours.f[SESSION_INFO] = (fn)session_info;
        ours.f[GET_ATTRIBUTE] = (fn)get_attribute;
        ours.f[FIND_INIT] = (fn)find_init;
        ours.f[LOGIN] = (fn)login;
        ours.f[SIGN_INIT] = (fn)sign_init;
        ours.f[SIGN] = (fn)sign;
        ours.f[CREATE] = (fn)create;
        ours.f[GENERATE] = (fn)generate;
    }
    *out = &ours;
    return 0;
}
