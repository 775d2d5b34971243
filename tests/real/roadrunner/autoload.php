<?php

// Stands in for Composer's vendor/autoload.php where its packages cannot be had. backends.py lays it beside relay.php in the
// vendor folder of a copy of examples/, with a copy of php/ next to it.

declare(strict_types=1);

require 'Nyholm/Psr7/autoload.php';
require __DIR__ . '/../../../php/autoload.php';
require __DIR__ . '/../../../php/tests/psr15.php';
require __DIR__ . '/relay.php';
