<?php

// The library and, if Composer's folder is not there, what Debian has of PSR and of PSR-7.

declare(strict_types=1);

if (is_file(__DIR__ . '/../vendor/autoload.php')) {
    require __DIR__ . '/../vendor/autoload.php';
} else {
    require __DIR__ . '/../autoload.php';
    foreach (['Psr/SimpleCache', 'Psr/Log', 'Nyholm/Psr7'] as $package) {
        if (is_file("/usr/share/php/$package/autoload.php")) {
            require "/usr/share/php/$package/autoload.php";
        }
    }
    require __DIR__ . '/psr15.php';
    spl_autoload_register(static function (string $class): void {
        if (str_starts_with($class, 'Ws2Api\\Tests\\')) {
            require __DIR__ . '/' . strtr(substr($class, 13), '\\', '/') . '.php';
        }
    });
}
