/* Reads a filter from standard input, lets libseccomp compile it, writes the BPF program to standard output.
   Input lines, all numbers decimal:
     default ACTION
     arch TOKEN
     rule ACTION NAME COUNT [INDEX OP VALUE VALUE2]...
   The prototypes stand here so that no header of libseccomp is needed. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <errno.h>

struct scmp_arg_cmp { unsigned int arg; int op; uint64_t datum_a; uint64_t datum_b; };
void *seccomp_init(uint32_t action);
int seccomp_arch_add(void *ctx, uint32_t token);
int seccomp_rule_add_array(void *ctx, uint32_t action, int syscall, unsigned int count, const struct scmp_arg_cmp *args);
int seccomp_syscall_resolve_name(const char *name);
int seccomp_export_bpf(void *ctx, int fd);

int main(void)
{
	char word[64], name[128];
	void *ctx = NULL;
	uint32_t fallback = 0;
	while (scanf("%63s", word) == 1) {
		uint32_t action;
		unsigned int count;
		if (!strcmp(word, "default")) {
			if (scanf("%u", &fallback) != 1)
				return 2;
			ctx = seccomp_init(fallback);
		} else if (!strcmp(word, "arch")) {
			if (scanf("%u", &action) != 1)
				return 2;
			int rc = seccomp_arch_add(ctx, action);
			if (rc && rc != -EEXIST) {
				fprintf(stderr, "arch %u: %d\n", action, rc);
				return 3;
			}
		} else if (!strcmp(word, "rule")) {
			struct scmp_arg_cmp args[6];
			if (scanf("%u %127s %u", &action, name, &count) != 3 || count > 6)
				return 2;
			for (unsigned int i = 0; i < count; i++)
				if (scanf("%u %d %lu %lu", &args[i].arg, &args[i].op, &args[i].datum_a, &args[i].datum_b) != 4)
					return 2;
			int number = seccomp_syscall_resolve_name(name);
			if (number == -1 || action == fallback)
				continue;
			int rc = seccomp_rule_add_array(ctx, action, number, count, args);
			if (rc && rc != -EEXIST && rc != -EDOM && rc != -EOPNOTSUPP) {
				fprintf(stderr, "rule %s: %d\n", name, rc);
				return 4;
			}
		} else {
			return 2;
		}
	}
	fflush(stdout);
	return seccomp_export_bpf(ctx, 1) ? 5 : 0;
}
