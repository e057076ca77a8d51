/* Writes the first system call filter of a process to standard output, as the kernel has it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#define GET_FILTER 0x420c

int main(int argc, char **argv)
{
	static unsigned long long program[65536];
	int pid = argc == 2 ? atoi(argv[1]) : 0;
	if (ptrace(PTRACE_ATTACH, pid, 0, 0) || waitpid(pid, NULL, __WALL) != pid)
		return 2;
	long count = ptrace(GET_FILTER, pid, 0, program);
	int error = errno;
	ptrace(PTRACE_DETACH, pid, 0, 0);
	if (count < 0) {
		fprintf(stderr, "PTRACE_SECCOMP_GET_FILTER: errno %d\n", error);
		return error == EINVAL || error == EIO ? 3 : 4;
	}
	fwrite(program, 8, count, stdout);
	return 0;
}
