// file_name.c: names are read from their end, because the prefix may hold anything.
#include "quant/file_name.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"

#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

static bool cut_ending(char *name, const char *ending) {
    size_t length = strlen(name), cut = strlen(ending);
    if (length < cut || strcmp(name + length - cut, ending) != 0) return false;
    name[length - cut] = '\0';
    return true;
}

// Cuts "_<digits>" off; -1 when the name does not end so, or the number is larger than any rank.
static int cut_number(char *name) {
    size_t length = strlen(name), start = length;
    while (start > 0 && isdigit((unsigned char)name[start - 1])) start--;
    if (start == length || length - start > 6 || start == 0 || name[start - 1] != '_') return -1;
    int number = atoi(name + start);
    name[start - 1] = '\0';
    return number;
}

// "_<rank>_<world>" at the end. What does not look like both stays.
static void cut_ranks(char *name, int *rank, int *world) {
    char *whole = oct_strdup(name);
    *world = cut_number(name);
    *rank = *world > 0 ? cut_number(name) : -1;
    if (*rank < 0 || *rank >= *world) {
        strcpy(name, whole);
        *rank = *world = -1;
    }
    free(whole);
}

bool oct_file_name_parse(const char *path, struct oct_file_name *out) {
    static const char hooks[] = "_hooks_";
    *out = (struct oct_file_name){.rank = -1, .world = -1};
    const char *slash = strrchr(path, '/');
    char *name = oct_strdup(slash ? slash + 1 : path), *found = NULL;
    out->json = cut_ending(name, ".json");
    out->npz = !out->json && cut_ending(name, ".npz");
    out->mod_list = out->json && cut_ending(name, "_mod_list");
    for (char *next = name; (next = strstr(next, hooks)); next++) found = next;
    bool fits = found && found > name && found[strlen(hooks)] && (out->json || out->npz);
    if (fits) {
        cut_ranks(name, &out->rank, &out->world);
        char *observer = found + strlen(hooks), *method = observer;
        while (*method && !(method[0] == '_' && isupper((unsigned char)method[1]))) method++; // methods are upper case, observers lower
        out->method = oct_strdup(*method ? method + 1 : "");
        out->observer = oct_strndup(observer, (size_t)(method - observer));
        out->prefix = oct_strndup(name, (size_t)(found - name));
    }
    free(name);
    return fits;
}

void oct_file_name_free(struct oct_file_name *name) {
    free(name->prefix);
    free(name->observer);
    free(name->method);
    *name = (struct oct_file_name){0};
}

char *oct_file_name_path(const struct oct_file_name *name, const char *folder, int rank, int world, const char *ending) {
    struct oct_buffer text = {0};
    oct_buffer_printf(&text, "%s_hooks_%s%s%s", name->prefix, name->observer, *name->method ? "_" : "", name->method);
    if (rank >= 0) oct_buffer_printf(&text, "_%d_%d", rank, world);
    oct_buffer_puts(&text, ending);
    char *path = oct_path_join(folder, text.data);
    oct_buffer_free(&text);
    return path;
}

static void gather(const char *folder, int depth, struct oct_file_list *out) {
    DIR *dir = opendir(folder);
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        char *path = oct_path_join(folder, entry->d_name);
        struct oct_file_name name;
        if (oct_file_name_parse(path, &name)) {
            out->paths = oct_resize(out->paths, out->count + 1, sizeof *out->paths, "paths");
            out->paths[out->count++] = oct_strdup(path);
        } else if (depth > 0 && strncmp(entry->d_name, "backup_", 7) != 0 && oct_path_is_directory(path)) {
            gather(path, depth - 1, out);
        }
        oct_file_name_free(&name);
        free(path);
    }
    closedir(dir);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void oct_file_list_gather(const char *folder, int depth, struct oct_file_list *out) {
    *out = (struct oct_file_list){0};
    gather(folder, depth, out);
    if (out->count) qsort(out->paths, out->count, sizeof *out->paths, by_name);
}

void oct_file_list_free(struct oct_file_list *list) {
    for (size_t i = 0; i < list->count; i++) free(list->paths[i]);
    free(list->paths);
    *list = (struct oct_file_list){0};
}
