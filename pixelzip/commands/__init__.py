"""The commands of ``pixelzip``, each in a module that is loaded when it is asked for."""
