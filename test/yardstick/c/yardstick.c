// yardstick: what this machine can do with page faults and lz4, without lazyfs.
//
//	yardstick FILE FRAME
//
// compresses FILE in frames of so many bytes into memory. Then it reads names of
// works from standard input, a line each, does each in a child process, and
// answers with a figure on a line, or with "failed" and the reason on standard
// error. Throughput is in GB/s, times in microseconds unless a work says else.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <lz4.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, HUGE = 2 << 20, TOUCHES = 4000 };
#define TRACKED (1UL << 30) // bytes of memory whose writes are collected

// What headers older than Linux 6.8 lack.
#define WP_UNPOPULATED (1 << 13)
#define WP_ASYNC (1 << 15)
struct move { uint64_t dst, src, len, mode; int64_t moved; };
#define MOVE _IOWR(0xAA, 5, struct move)
struct region { uint64_t start, end, categories; };
struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t inverted, mask, anyof, returned;
};
#define SCAN _IOWR('f', 16, struct scan)
#define SCAN_PROTECT 1
#define WRITTEN 2

static size_t frame, count, size; // bytes of a frame, frames, bytes of all
static char **packed;
static int *packed_len; // frame where it did not shrink

static void fail(const char *what) {
	perror(what);
	exit(1);
}

static double seconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void compress(const char *path) {
	struct stat st;
	int fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &st) < 0) fail(path);
	char *plain = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (plain == MAP_FAILED) fail(path);
	count = st.st_size / frame, size = count * frame;
	packed = malloc(count * sizeof *packed), packed_len = malloc(count * sizeof *packed_len);
	for (size_t i = 0; i < count; i++) {
		char out[LZ4_COMPRESSBOUND(1 << 20)];
		int n = LZ4_compress_default(plain + i * frame, out, frame, sizeof out);
		if (n <= 0 || (size_t)n >= frame) n = frame, memcpy(out, plain + i * frame, n);
		packed[i] = memcpy(malloc(n), out, n), packed_len[i] = n;
	}
	munmap(plain, st.st_size);
	close(fd);
}

// Works called stored- read the packed frames from a file, one by one, and look at
// each byte of them, as whoever verifies checksums does at least.
static const char *plain_path;
static int file = -1;
static off_t *place;
static void store(void) {
	char path[4096];
	off_t end = 0;
	snprintf(path, sizeof path, "%s.packed", plain_path);
	file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (file < 0 || unlink(path) < 0) fail(path);
	place = malloc(count * sizeof *place);
	for (size_t i = 0; i < count; i++) {
		if (pwrite(file, packed[i], packed_len[i], end) != packed_len[i]) fail(path);
		place[i] = end, end += (packed_len[i] + 63) & ~63;
	}
}

static volatile uint64_t sum;
static const char *fetch(size_t i) {
	static uint64_t buf[(1 << 20) / 8];
	uint64_t all = 0;
	if (pread(file, buf, packed_len[i], place[i]) != packed_len[i]) fail("read frame");
	for (int k = 0; k < packed_len[i] / 8; k++) all += buf[k];
	sum = all;
	return (char *)buf;
}

static void decode(size_t i, char *to) {
	const char *from = file < 0 ? packed[i] : fetch(i);
	if (packed_len[i] == (int)frame) memcpy(to, from, frame);
	else if (LZ4_decompress_safe(from, to, packed_len[i], frame) != (int)frame) fail("decode");
}

static char *memory(size_t n) {
	char *m = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m == MAP_FAILED) fail("mmap");
	return m;
}
static char *small_pages(size_t n) {
	char *m = memory(n);
	madvise(m, n, MADV_NOHUGEPAGE);
	return m;
}
static char *shared_pages(size_t n) {
	int fd = memfd_create("yardstick", 0);
	if (fd < 0 || ftruncate(fd, n) < 0) fail("memfd");
	char *m = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (m == MAP_FAILED) fail("mmap");
	return m;
}
static char *filled(size_t n) { return memset(small_pages(n), 1, n); }
static char *aligned(size_t n) {
	char *m = memory(n + HUGE);
	m += -(uintptr_t)m % HUGE;
	madvise(m, n, MADV_HUGEPAGE);
	return m;
}

static int uffd;
static void watch(char *m, size_t n, int flags, uint64_t features, uint64_t mode) {
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	struct uffdio_register reg = {.range = {(uintptr_t)m, n}, .mode = mode};
	uffd = syscall(SYS_userfaultfd, flags);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) < 0 || ioctl(uffd, UFFDIO_REGISTER, &reg) < 0) fail("userfaultfd");
}
static void install(char *dst, char *src, size_t n) {
	struct uffdio_copy c = {.dst = (uintptr_t)dst, .src = (uintptr_t)src, .len = n};
	if (ioctl(uffd, UFFDIO_COPY, &c) < 0 && errno != EEXIST) fail("UFFDIO_COPY");
}
static void protect(char *m, size_t n, int on) {
	struct uffdio_writeprotect w = {.range = {(uintptr_t)m, n}, .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0};
	if (ioctl(uffd, UFFDIO_WRITEPROTECT, &w) < 0) fail("UFFDIO_WRITEPROTECT");
}

// order gives the numbers below n, shuffled the same way each time.
static size_t *order(size_t n) {
	size_t *p = malloc(n * sizeof *p);
	uint64_t x = 1;
	for (size_t i = 0; i < n; i++) {
		x = x * 6364136223846793005 + 1442695040888963407;
		size_t j = (x >> 33) % (i + 1);
		p[i] = p[j], p[j] = i;
	}
	return p;
}

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a - *(const double *)b;
	return x < 0 ? -1 : x > 0;
}

static volatile char seen;

static double work_decode(void) {
	char *buf = filled(frame);
	double t = seconds();
	for (size_t i = 0; i < count; i++) decode(i, buf);
	return size / (seconds() - t) / 1e9;
}

static double work_anon(void) {
	char *m = small_pages(size);
	double t = seconds();
	for (size_t at = 0; at < size; at += PAGE) m[at] = 1;
	return size / (seconds() - t) / 1e9;
}

// The toucher brings each frame in itself, before it reads a byte of it.
static double self_fill(int random) {
	char *m = small_pages(size), *buf = filled(frame);
	size_t *p = order(count);
	watch(m, size, 0, 0, UFFDIO_REGISTER_MODE_MISSING);
	double t = seconds();
	for (size_t k = 0; k < count; k++) {
		size_t i = random ? p[k] : k;
		decode(i, buf);
		install(m + i * frame, buf, frame);
		seen = m[i * frame];
	}
	t = seconds() - t;
	return random ? t / count * 1e6 : size / t / 1e9;
}
static double work_self_rand(void) { return self_fill(1); }
static double work_stored_self_rand(void) { return store(), self_fill(1); }
static double work_self_seq(void) { return self_fill(0); }

// Each thread has a part of the memory. It decodes into a fresh huge page, moves that
// into place, and reads what it brought in.
struct part { pthread_t thread; char *m; size_t from, end; };
static void *move_part(void *arg) {
	struct part *p = arg;
	char *page = aligned(HUGE);
	for (size_t done = p->from; done < p->end; done += HUGE) {
		for (size_t at = 0; at < HUGE; at += frame) decode((done + at) / frame, page + at);
		struct move a = {(uintptr_t)p->m + done, (uintptr_t)page, HUGE, 0, 0};
		if (ioctl(uffd, MOVE, &a) < 0) fail("UFFDIO_MOVE");
		for (size_t at = 0; at < HUGE; at += PAGE) seen = p->m[done + at];
	}
	return NULL;
}
static double move_seq(int threads) {
	struct part parts[2];
	size_t each = size / HUGE / threads * HUGE;
	char *m = aligned(size);
	watch(m, size, 0, 0, UFFDIO_REGISTER_MODE_MISSING);
	double t = seconds();
	for (int i = 0; i < threads; i++) {
		parts[i] = (struct part){.m = m, .from = i * each, .end = (i + 1) * each};
		if (i > 0 && pthread_create(&parts[i].thread, NULL, move_part, &parts[i])) fail("start a thread");
	}
	move_part(&parts[0]);
	for (int i = 1; i < threads; i++) pthread_join(parts[i].thread, NULL);
	return threads * each / (seconds() - t) / 1e9;
}
static double work_move_seq(void) { return move_seq(1); }
static double work_move_seq_two(void) { return move_seq(2); }

static void pin(void) {
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof one, &one);
}

// served is the memory m with its faults answered by another process, step bytes
// each.
static char *served(char *m, size_t step, int spin) {
	char *buf = filled(step);
	watch(m, size, spin ? O_NONBLOCK : 0, 0, UFFDIO_REGISTER_MODE_MISSING);
	if (fork() > 0) {
		usleep(10000); // until the server waits
		return m;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		struct uffd_msg e;
		if (read(uffd, &e, sizeof e) != sizeof e) {
			if (errno == EAGAIN || errno == EINTR) continue;
			fail("read faults");
		}
		size_t at = (e.arg.pagefault.address - (uintptr_t)m) / step * step;
		for (size_t o = 0; o < step && at + o < size; o += frame) decode((at + o) / frame, buf + o);
		install(m + at, buf, at + step > size ? size - at : step);
	}
}

static double touch(char *m, int spin) {
	served(m, frame, spin);
	size_t *p = order(count), n = count < TOUCHES ? count : TOUCHES;
	double took[TOUCHES];
	for (size_t k = 0; k < n; k++) {
		double t = seconds();
		seen = m[p[k] * frame];
		took[k] = seconds() - t;
	}
	qsort(took, n, sizeof *took, ascending);
	return took[n / 2] * 1e6;
}
static double work_proc_rand(void) { return touch(small_pages(size), 0); }
static double work_pin_rand(void) { return pin(), touch(small_pages(size), 0); }
static double work_spin_rand(void) { return touch(small_pages(size), 1); }
static double work_stored_pin_rand(void) { return pin(), store(), touch(shared_pages(size), 0); }
static double work_stored_spin_rand(void) { return store(), touch(shared_pages(size), 1); }

static double work_proc_seq(void) {
	char *m = served(small_pages(size), frame < HUGE ? HUGE : frame, 0);
	double t = seconds();
	for (size_t at = 0; at < size; at += PAGE) seen = m[at];
	return size / (seconds() - t) / 1e9;
}

// All cores decode and install into shared memory, in runs of RUN bytes, and nobody
// waits for anybody: what a pager can do at most.
enum { RUN = 256 << 10 };
static char *shared;
static size_t next_run;
static void *fill_runs(void *unused) {
	size_t step = frame < RUN ? RUN : frame, at;
	char *buf = filled(step);
	while ((at = __atomic_fetch_add(&next_run, step, __ATOMIC_RELAXED)) < size) {
		size_t n = at + step > size ? size - at : step;
		for (size_t o = 0; o < n; o += frame) decode((at + o) / frame, buf + o);
		install(shared + at, buf, n);
	}
	return unused;
}
static double work_fill_all(void) {
	shared = shared_pages(size);
	watch(shared, size, 0, 0, UFFDIO_REGISTER_MODE_MISSING);
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t *threads = malloc(cores * sizeof *threads);
	double t = seconds();
	for (long i = 0; i < cores; i++) pthread_create(&threads[i], NULL, fill_runs, NULL);
	for (long i = 0; i < cores; i++) pthread_join(threads[i], NULL);
	return size / (seconds() - t) / 1e9;
}

// write_each writes one page in every step, and returns microseconds a page.
static double write_each(char *m, size_t step) {
	double t = seconds();
	for (size_t at = 0; at < size; at += step * PAGE) m[at] = 2;
	return (seconds() - t) / (size / (step * PAGE)) * 1e6;
}

static void *lift(void *unused) {
	struct uffd_msg e;
	while (read(uffd, &e, sizeof e) == sizeof e)
		protect((char *)(uintptr_t)(e.arg.pagefault.address & -PAGE), PAGE, 0);
	return unused;
}
static double work_wp_sync(void) {
	char *m = filled(size);
	pthread_t t;
	watch(m, size, 0, UFFD_FEATURE_PAGEFAULT_FLAG_WP, UFFDIO_REGISTER_MODE_WP);
	protect(m, size, 1);
	pthread_create(&t, NULL, lift, NULL);
	return write_each(m, 16);
}
static double work_wp_sync_pin(void) { return pin(), work_wp_sync(); }

static char *async(size_t n) {
	char *m = filled(n);
	watch(m, n, 0, UFFD_FEATURE_PAGEFAULT_FLAG_WP | WP_UNPOPULATED | WP_ASYNC, UFFDIO_REGISTER_MODE_WP);
	protect(m, n, 1);
	return m;
}
static double work_wp_async(void) { return write_each(async(size), 10); }

// Collecting and protecting again what was written, 1 % of the pages, in milliseconds.
static double work_wp_scan(void) {
	char *m = async(size);
	write_each(m, 100);
	int fd = open("/proc/self/pagemap", O_RDONLY);
	size_t room = size / PAGE * sizeof(struct region);
	struct scan s = {.size = sizeof s, .flags = SCAN_PROTECT, .start = (uintptr_t)m, .end = (uintptr_t)m + size,
		.vec = (uintptr_t)filled((room + PAGE - 1) & -PAGE), .vec_len = size / PAGE, .mask = WRITTEN, .returned = WRITTEN};
	double t = seconds();
	if (ioctl(fd, SCAN, &s) < 0) fail("PAGEMAP_SCAN");
	return (seconds() - t) * 1e3;
}

// A collection by mprotect and SIGSEGV: share of 1 GiB is written, page by page
// at random, each noted and unprotected by the handler; then all is protected
// again. Milliseconds. The kernel's limit of mappings ends it beyond a third.
static size_t *noted, notes;
static void note(int sig, siginfo_t *info, void *context) {
	(void)sig, (void)context;
	noted[notes++] = (uintptr_t)info->si_addr / PAGE;
	if (mprotect((void *)((uintptr_t)info->si_addr & -PAGE), PAGE, PROT_READ | PROT_WRITE) < 0) _exit(1);
}
static double segv(double share) {
	char *m = filled(TRACKED);
	size_t pages = TRACKED / PAGE, *p = order(pages), n = pages * share;
	struct sigaction a = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
	noted = (size_t *)filled(pages * sizeof *noted);
	sigaction(SIGSEGV, &a, NULL);
	mprotect(m, TRACKED, PROT_READ);
	double t = seconds();
	for (size_t i = 0; i < n; i++) m[p[i] * PAGE] = 2;
	mprotect(m, TRACKED, PROT_READ);
	return (seconds() - t) * 1e3;
}
static double work_segv_1(void) { return segv(0.001); }
static double work_segv_10(void) { return segv(0.01); }
static double work_segv_100(void) { return segv(0.1); }
static double work_segv_1000(void) { return segv(1); }

static const struct { const char *name; double (*run)(void); } works[] = {
	{"decode", work_decode}, {"anon", work_anon}, {"self-rand", work_self_rand}, {"self-seq", work_self_seq},
	{"move-seq", work_move_seq}, {"move-seq-two", work_move_seq_two}, {"proc-rand", work_proc_rand}, {"pin-rand", work_pin_rand},
	{"spin-rand", work_spin_rand}, {"proc-seq", work_proc_seq}, {"fill-all", work_fill_all}, {"wp-sync", work_wp_sync},
	{"stored-self-rand", work_stored_self_rand}, {"stored-pin-rand", work_stored_pin_rand},
	{"stored-spin-rand", work_stored_spin_rand}, {"wp-sync-pin", work_wp_sync_pin}, {"wp-async", work_wp_async}, {"wp-scan", work_wp_scan},
	{"segv-0.1%", work_segv_1}, {"segv-1%", work_segv_10}, {"segv-10%", work_segv_100}, {"segv-100%", work_segv_1000},
};

static void answer(const char *name) {
	for (size_t i = 0; i < sizeof works / sizeof *works; i++) {
		if (strcmp(name, works[i].name)) continue;
		// The host of a virtual machine may have taken unused memory back; to
		// get it costs more than anything measured here.
		munmap(memset(aligned(2 * size), 1, 2 * size), 2 * size);
		printf("%g\n", works[i].run());
		exit(0);
	}
	fprintf(stderr, "no work %s\n", name);
	exit(1);
}

int main(int argc, char **argv) {
	char name[32];
	if (argc != 3 || (frame = strtoul(argv[2], NULL, 10)) < PAGE || frame > 1 << 20 || frame & (frame - 1)) {
		fprintf(stderr, "usage: yardstick FILE FRAME\n");
		return 2;
	}
	compress(plain_path = argv[1]);
	while (scanf("%31s", name) == 1) {
		int status;
		pid_t child = fork();
		if (child == 0) answer(name);
		if (child < 0 || waitpid(child, &status, 0) < 0) fail("child");
		if (status) printf("failed\n");
		fflush(stdout);
	}
	return 0;
}
