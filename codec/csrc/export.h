/* What a library shows to those who load it. */

#ifndef PIXELZIP_EXPORT_H
#define PIXELZIP_EXPORT_H

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#endif
